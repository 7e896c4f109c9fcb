"""The gate for continuous integration: what it lets through, what it does not, and why."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import histories
import pytest
from histories import save_run, steady

from modelport.history.compare import CompareOptions, compare
from modelport.history.gate import GateLimits, judge_comparison
from modelport.report.history import gate_line, render_gate_junit
from modelport.results.comparison import PerformanceGate


def judged(
    tmp_path: Path, slower: float = 1.0, *, right: int = 90, limits: GateLimits | None = None, **more: object
) -> PerformanceGate:
    a = save_run(tmp_path / "a", latencies=[steady(4e-3), steady(7e-3)])
    b = save_run(tmp_path / "b", latencies=[steady(4e-3), steady(7e-3 * slower)], right=right, **more)
    return judge_comparison(compare(a, b, options=CompareOptions()), limits or GateLimits())


def test_the_same_passes(tmp_path: Path) -> None:
    found = judged(tmp_path)
    assert found.passed
    assert gate_line(found).startswith("passed: nothing in ")


def test_a_slowdown_beyond_limit_and_noise_fails(tmp_path: Path) -> None:
    found = judged(tmp_path, 1.1)
    assert not found.passed
    assert [failure.what for failure in found.failures] == ["null-f32, batch 2"]
    assert gate_line(found).startswith("FAILED: null-f32, batch 2: 10.0% slower (7 → 7.7 ms; ")
    assert gate_line(found).endswith("more than the 5.0% allowed")


def test_a_slowdown_within_the_limit_passes(tmp_path: Path) -> None:
    assert judged(tmp_path, 1.1, limits=GateLimits(max_slowdown=0.2)).passed
    assert judged(tmp_path, limits=GateLimits(max_slowdown=0.2)).notes == ()


def test_what_noise_may_explain_passes_with_a_note_unless_strict(tmp_path: Path) -> None:
    found = judged(tmp_path, 1.03, limits=GateLimits(max_slowdown=0.01))
    assert found.passed
    assert any("3.0% slower" in note and "but not beyond noise: its interval holds 0" in note for note in found.notes)
    assert not judged(tmp_path, 1.03, limits=GateLimits(max_slowdown=0.01, strict=True)).passed


def test_a_limit_below_the_noise_is_told(tmp_path: Path) -> None:
    found = judged(tmp_path, limits=GateLimits(max_slowdown=0.01))
    assert found.passed
    (note,) = found.notes
    assert note.startswith(
        "in 2 of 2 configurations a slowdown of 1.0% could not have been told from noise; it takes up to 6."
    )


def test_a_busy_machine_does_not_open_the_gate(tmp_path: Path) -> None:
    found = judged(tmp_path, 1.5, hygiene=histories.BUSY)
    assert not found.passed
    assert gate_line(found).endswith("more than the 5.0% allowed; others used the machine during B: measure again")
    assert judged(tmp_path, hygiene=histories.BUSY).passed


def test_accuracy_beyond_noise_or_beyond_the_points_allowed(tmp_path: Path) -> None:
    assert judged(tmp_path, right=88).passed  # by interval, for there are no predictions
    assert gate_line(judged(tmp_path, right=60)).startswith(
        "FAILED: null-f32: top-1 fell by 30.00 points, from 90.00% to 60.00%, more than what noise explains (-40.77 …"
    )
    assert judged(tmp_path, right=88, limits=GateLimits(max_drop=2.0)).passed
    found = judged(tmp_path, right=88, limits=GateLimits(max_drop=1.9))
    assert gate_line(found).startswith(
        "FAILED: null-f32: top-1 fell by 2.00 points, from 90.00% to 88.00%, more than the 1.9 points allowed"
    )


def test_the_first_reason_and_how_many_more(tmp_path: Path) -> None:
    found = judged(tmp_path, 1.5, right=50)
    assert gate_line(found).endswith("(and 1 more)")
    assert "\n" not in gate_line(found)


def test_junit_names_each_case(tmp_path: Path) -> None:
    suite = ElementTree.fromstring(render_gate_junit(judged(tmp_path, 1.1)).partition("\n")[2])
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["null-f32, batch 2"]


def test_junit_of_hostile_names_is_xml(tmp_path: Path) -> None:
    found = judged(tmp_path, 1.1)
    name = '<x>&"\x00\x1b[31m'
    change = found.comparison.speed[1].model_copy(update={"configuration": name})
    comparison = found.comparison.model_copy(update={"speed": (change,)})
    suite = ElementTree.fromstring(
        render_gate_junit(found.model_copy(update={"comparison": comparison})).partition("\n")[2]
    )
    assert [case.get("name") for case in suite][-1] == '<x>&"\\x00\\x1b[31m'


@pytest.mark.parametrize("limits", [GateLimits(), GateLimits(strict=True)])
def test_faster_and_better_passes(tmp_path: Path, limits: GateLimits) -> None:
    assert judged(tmp_path, 0.5, right=100, limits=limits).passed
