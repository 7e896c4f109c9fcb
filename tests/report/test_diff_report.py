"""What a comparison says: sentences to act on, tables, the chart, and the page in a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import faults
import pytest
from places import ROOT

from modelport.comparison.compare import DiffOptions, diff
from modelport.report.diff import diff_verdict, fix_table, fix_verdict, layers_table, render_diff_html, sides_table
from modelport.results import DiffResult, FixResult
from modelport.results.accuracy import Paired
from modelport.results.diff import MSIT_MARKS, FixStep

HOSTILE = "<script>window.hacked = 1</script>"
MODELPORT = Path(sys.executable).with_name("modelport")


@pytest.fixture(scope="module")
def found(csp_onnx: Path, tmp_path_factory: pytest.TempPathFactory, require_engine) -> DiffResult:
    """Every layer, against a file with another slope."""
    require_engine("onnxruntime")
    other = faults.change_slope(csp_onnx, tmp_path_factory.mktemp("report") / "other.onnx", "LeakyRelu_6", 0.5)
    return diff(csp_onnx, other, options=DiffOptions(limit=2, whole=True))


@pytest.fixture(scope="module")
def sound(csp_onnx: Path, require_engine) -> DiffResult:
    require_engine("onnxruntime")
    return diff(csp_onnx, csp_onnx, options=DiffOptions(limit=2))


def as_int8(result: DiffResult, **culprit: Any) -> DiffResult:
    """The result as an int8 model of an engine would have it."""
    b = result.b.model_copy(update={"precision": "int8", "kind": "engine", "engine": "openvino", "exact": False})
    changed = result.culprit and result.culprit.model_copy(update={"differs": (), **culprit})
    return result.model_copy(update={"b": b, "exact": False, "marks": MSIT_MARKS, "culprit": changed})


def fix(result: DiffResult, *steps: tuple[int, float | None, bool], kept: tuple[str, ...] = ()) -> DiffResult:
    paired = Paired(against="A", images=200, changed=4, lost=3, gained=1, p_value=0.6)
    made = [
        FixStep(kept=k, loss_points=loss, passed=passed, paired=None if loss is None else paired,
                problem="the engine has no code for it" if loss is None else None)
        for k, loss, passed in steps
    ]  # fmt: skip
    found = FixResult(max_drop_points=0.5, labelled=True, images=200, engine="openvino", reference=None, candidates=40,
                      steps=tuple(made), kept=kept, output="model-int8.onnx" if kept else None)  # fmt: skip
    return result.model_copy(update={"fix": found})


def test_the_sentence_names_the_operator_its_own_error_and_the_difference(found: DiffResult) -> None:
    text = diff_verdict(found)
    own = found.culprit.layer.own.relative_distance
    assert text.startswith(
        f"FALLS OUT at LeakyRelu_6 (LeakyRelu, f32): of its own it is off by {own:.3g} (mark 1e-05); what it"
    )
    assert (
        "alpha is 0.01 in A and 0.5 in B. Make B's file compute it as A's does: undo the rewrite, or export again"
        in text
    )


def test_int8_gets_the_command_that_keeps_the_operator_in_floating_point(found: DiffResult) -> None:
    text = diff_verdict(as_int8(found, keep_float=("a b", "LeakyRelu_6")))
    assert f"modelport compile {found.a.onnx} --engine openvino --precision int8 --calibration DIR" in text
    assert "--keep-float 'a b' --keep-float LeakyRelu_6 -o OUT; or let --fix find" in text


def test_other_causes_get_other_advice(found: DiffResult, sound: DiffResult) -> None:
    assert "Let --fix keep the worst operators in floating point" in diff_verdict(as_int8(found, kind="accumulated"))
    engine = found.model_copy(update={"culprit": found.culprit.model_copy(update={"differs": ()})})
    assert "it is ONNX Runtime" in diff_verdict(engine)
    assert "computes it differently: try another version" in diff_verdict(engine)
    bf16 = as_int8(found)
    bf16 = bf16.model_copy(update={"b": bf16.b.model_copy(update={"precision": "bf16"})})
    assert "bf16 does not hold this operator's values: compile with --precision f32" in diff_verdict(bf16)
    assert "The scores are within the marks all the same" in diff_verdict(found.model_copy(update={"recovers": True}))
    harmless = as_int8(found, kind="accumulated").model_copy(update={"recovers": True})
    assert diff_verdict(harmless).endswith("Nothing needs to be done while the accuracy holds")
    assert diff_verdict(sound).startswith("NO OPERATOR FALLS OUT: the scores of ")


def test_tables_say_what_ran_on_what_and_how_often(found: DiffResult, sound: DiffResult) -> None:
    rows = dict(sides_table(found).rows)
    assert "operator by operator in f32" in rows["B"]
    assert "2 images of random noise: give --images" in rows["on"]
    assert rows["runs"].startswith(f"{found.runs.a} of A, {found.runs.b} of B with at most 8 tensors each")
    worst = layers_table(found)
    assert worst.title == "Worst layers by their own error (18 of 18)"
    assert (worst.rows[0][0], worst.rows[0][-1]) == ("LeakyRelu_6", "RED")
    assert layers_table(sound).title == f"Layers looked at ({len(sound.layers)} of 18)"
    assert {row[3] for row in layers_table(sound).rows} == {"—"}


def test_values_that_are_not_finite_are_told(found: DiffResult) -> None:
    first = found.layers[0]
    odd = first.model_copy(update={"error": first.error.model_copy(update={"non_finite_b": 3, "non_finite_differ": 3})})
    table = layers_table(found.model_copy(update={"layers": (odd, *found.layers[1:])}))
    assert table.notes[-1].endswith(f"(first: {first.operator}, 0 in A, 3 in B).")
    assert next(row for row in table.rows if row[0] == first.operator)[-1] == "not finite"


def test_a_fix_is_told_in_one_sentence_and_a_table(found: DiffResult) -> None:
    good = fix(as_int8(found), (0, 4.0, False), (1, 1.5, False), (2, 0.25, True), kept=("x", "y"))
    assert fix_verdict(good.fix) == (
        "FIXED: 0.25 points of top-1 lost with 2 of 40 operators in floating point, 4.00 points of top-1 lost without (0.5 "
        "accepted): model-int8.onnx"
    )
    table = fix_table(good)
    assert [(row[0], row[3], row[4]) for row in table.rows] == [
        ("0 (as given)", "4.00", "FAILED"), ("1", "1.50", "FAILED"), ("2", "0.25", "passed")
    ]  # fmt: skip
    assert table.notes[-1] == "In floating point, worst first: x, y."
    bad = fix(as_int8(found), (0, 4.0, False), (1, None, False), (2, 1.5, False))
    assert fix_verdict(bad.fix).startswith("NOT FIXED: 4.00 points of top-1 lost, 0.5 accepted")
    assert fix_verdict(bad.fix).endswith("closest: 1.50 points of top-1 lost with 2 in floating point")
    assert fix_table(bad).rows[1] == ("1", "—", "—", "—", "the engine has no code for it")
    assert (
        fix_verdict(fix(as_int8(found), (0, 0.1, True)).fix)
        == "NOTHING TO FIX: 0.10 points of top-1 lost, 0.5 accepted"
    )


def test_the_page_draws_every_layer_and_hostile_names_stay_text(
    open_page: Any, found: DiffResult, tmp_path: Path
) -> None:
    culprit = found.culprit.model_copy(update={"layer": found.culprit.layer.model_copy(update={"operator": HOSTILE})})
    harmed = found.model_copy(
        update={"arch": HOSTILE, "culprit": culprit, "layers": (*found.layers[:7], culprit.layer, *found.layers[8:])}
    )
    (tmp_path / "diff.html").write_text(render_diff_html(harmed), encoding="utf-8")
    page, problems = open_page(tmp_path / "diff.html")
    points = page.locator("#chart-depth .points path").count()
    page.hover("#chart-depth .nsewdrag")
    hacked, verdict = page.evaluate("window.hacked"), page.inner_text("[role=status]")
    page.close()
    assert points == 18 * 2 + 1  # with and without what was inherited; the star
    assert hacked is None
    assert f"FALLS OUT at {HOSTILE}" in verdict
    assert problems == []


# -- the command line


def modelport(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(MODELPORT), *map(str, words)], capture_output=True, text=True, env={**os.environ})


def test_the_command_prints_the_sentence_and_writes_the_files(csp_onnx: Path, tmp_path: Path, require_engine) -> None:
    require_engine("onnxruntime")
    other = faults.change_weight(csp_onnx, tmp_path / "other.onnx", "Conv_9", 1.5)
    done = modelport("diff", csp_onnx, other, "--all", "--limit", 2, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "FALLS OUT at Conv_9 (Conv, f32)" in done.stdout
    assert f"Report: {tmp_path / 'out' / 'diff.html'}" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"diff.json", "diff.csv", "diff.html"}
    again = modelport("diff", csp_onnx, other, "--limit", 2, "--json")
    document = json.loads(again.stdout)
    assert document["culprit"]["layer"]["operator"] == "Conv_9"
    refused = modelport("diff", csp_onnx, other, "-o", tmp_path / "out")
    assert refused.returncode == 1
    assert "exists already" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fix"], "--fix needs --images and --calibration and -o."),
        (["--labels", "labels.txt"], "--labels is for --fix."),
        (["--calibration-samples", "20"], "--calibration-samples is for --fix."),
        (["--max-taps", "1"], "is not in the range x>=2"),
    ],
)
def test_options_that_do_not_go_are_a_usage_error(words: list[str], message: str) -> None:
    done = modelport("diff", "a.onnx", "b.onnx", *words)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_command_takes_the_architecture_from_a_recipe(csp_onnx: Path, checkpoint: Path) -> None:
    done = modelport("diff", checkpoint, csp_onnx, "--recipe", ROOT / "recipes" / "digits.yaml")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "input" in done.stderr  # the recipe's 64 pixels against the file's 32
