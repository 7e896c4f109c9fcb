"""The short Markdown for pull requests, the model card in the guide's order of chapters, and JUnit XML for CI."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html import escape, unescape
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from test_results import make_gate, make_parity, make_run, make_target_result

from modelport.report.junit import render_junit
from modelport.report.markdown import fenced, render_markdown, text
from modelport.report.model_card import render_model_card
from modelport.results import Gate, RunResult

GUIDE = [
    "Model overview",
    "Environment",
    "Model conversion",
    "Data set and preprocessing",
    "Offline inference",
    "Accuracy",
    "Performance",
]


def html(markdown: str) -> str:
    """As GitHub would show it: CommonMark with tables."""
    return MarkdownIt("commonmark").enable("table").render(markdown)


def failing(result: RunResult) -> RunResult:
    first = result.targets[0].model_copy(update={"gate": make_gate(True, False)})
    return result.model_copy(update={"targets": (first, *result.targets[1:])})


# -- report.md


def test_it_is_short_and_leads_with_the_verdict_and_the_answers(demo: RunResult) -> None:
    written = render_markdown(demo)
    assert written.startswith(
        "# digits: PASSED: all 3 targets kept what the source can do\n\n- Did the accuracy hold? **Yes**, 3 of 3"
    )
    shown = written.partition("<details>")[0]
    assert len(shown.splitlines()) < 60
    for target in demo.targets:
        assert f"| {target.name} |" in written
    assert "**Failed checks**" not in written


def test_every_command_is_folded_away_in_it(demo: RunResult) -> None:
    folded = render_markdown(demo).partition("<details>")[2]
    for command in demo.commands:
        assert command.line in folded


def test_failed_checks_are_shown(demo: RunResult) -> None:
    written = render_markdown(failing(demo))
    assert written.startswith(f"# digits: FAILED: {demo.targets[0].name} did not pass its gate")
    failed = written.partition("**Failed checks**")[2].split("\n\n")[1]
    assert "check 1" in failed
    assert "check 0" not in failed


def test_images_that_failed_are_counted(harmed: RunResult) -> None:
    first = harmed.targets[0]
    shown = unescape(html(render_markdown(harmed)))
    assert (
        f"<li>{first.name}: images that could not be classified: 1 (first: {first.inference.bad_images[0].key}: "
        in shown
    )


def test_tables_are_tables(demo: RunResult) -> None:
    for written in (render_markdown(demo), render_model_card(demo)):
        lines = [line for line in written.splitlines() if line.startswith("|")]
        assert all(re.match(r"\|.*\|$", line) for line in lines)
        assert html(written).count("<table>") == sum(line.startswith("| ---") for line in lines)


def test_hostile_names_stay_text_in_markdown(harmed: RunResult) -> None:
    for written in (render_markdown(harmed), render_model_card(harmed)):
        rendered = html(written)
        assert "<script" not in rendered
        assert "<img" not in rendered
        assert "&lt;script&gt;" in rendered


@pytest.mark.parametrize("name", ["a_b_c", "*x*", "[x](y)", "`x`", "a|b", "<b>", "a\nb", "~~x~~", "&lt;", "\\"])
def test_text_is_shown_as_it_is(name: str) -> None:
    assert unescape(html(f"x {text(name)} x")) == f"<p>x {' '.join(name.splitlines())} x</p>\n"


def test_nothing_in_a_block_of_code_ends_it() -> None:
    evil = "a\n```\n<script>\n````"
    assert html(fenced(evil, "sh")) == f'<pre><code class="language-sh">{escape(evil)}\n</code></pre>\n'


# -- model-card.md


def test_the_chapters_are_the_guides_in_its_order(demo: RunResult) -> None:
    card = render_model_card(demo)
    assert re.findall(r"^## (\d) (.*)$", card, re.MULTILINE) == [
        (str(number), title) for number, title in enumerate(GUIDE, start=1)
    ]
    sections = re.findall(r"^### (\d\.\d)", card, re.MULTILINE)
    assert sections == [
        "1.1",
        "1.2",
        "2.1",
        "2.2",
        "3.1",
        "3.2",
        "4.1",
        "4.2",
        "4.3",
        "5.1",
        "5.2",
        "6.1",
        "6.2",
        "6.3",
        "7.1",
    ]


def test_measured_figures_are_filled_in(demo: RunResult) -> None:
    card = render_model_card(demo)
    for target in demo.targets:
        for bench in target.performance:
            assert f"{bench.throughput:,.1f}" in card
        for share in target.accuracy.topn:
            assert f"{share * 100:.2f} %" in card
        assert f"{target.inference.e2e.throughput:,.1f}" in card
    for fact in (demo.onnx_sha256, demo.model.checkpoint_sha256, demo.environment.cpu, f"Opset {demo.opset}"):
        assert fact in card
    for command in demo.commands:
        assert command.line in card


def test_what_is_not_known_is_said() -> None:
    bare = make_target_result().model_copy(
        update={"accuracy": None, "parity": None, "paired": None, "gate": Gate(tolerance_points=1.0, checks=())}
    )
    card = render_model_card(
        make_run(bare).model_copy(update={"recorded": None, "information": (), "export_parity": None, "commands": ()})
    )
    assert card.count("The recipe records none.") == 2
    assert "Not measured: the images have no labels." in card
    assert "It was given, not exported." in card
    assert "NO VERDICT" in card


# -- junit.xml

# The schema of Jenkins' xUnit plugin (junit-10), as facts: attributes needed, attributes allowed, children allowed.
SCHEMA = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url", "version"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": (
        {"name"},
        {"time", "classname", "group"},
        {"skipped", "errors", "failure", "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
}


def read(document: str) -> ET.Element:
    """The document, held against the schema."""
    root = ET.fromstring(document.encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        needed, allowed, children = SCHEMA[element.tag]
        assert needed <= set(element.attrib) <= needed | allowed, element.attrib
        assert {child.tag for child in element} <= children
        assert re.fullmatch(r"(\d+(\.\d{0,3})?)?", element.get("time", "")), element.attrib
    return root


def test_gates_are_test_cases(demo: RunResult) -> None:
    root = read(render_junit(demo))
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["digits.export", *(f"digits.{target.name}" for target in demo.targets)]
    for target in demo.targets:
        cases = suites[f"digits.{target.name}"].findall("testcase")
        assert [case.get("name") for case in cases] == [check.name for check in target.gate.checks]
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    assert root.get("tests") == str(1 + sum(len(target.gate.checks) for target in demo.targets))


def test_failures_say_what_dropped_by_how_much() -> None:
    parity = make_parity(tolerance=1e-6)
    root = read(render_junit(make_run(make_target_result(True, False)).model_copy(update={"export_parity": parity})))
    export, suite = root
    assert export.find("testcase/failure").get("message") == (
        "scores differ from PyTorch 2.6 by 5.0e-04 of the largest, at most 1e-06 accepted"
    )
    assert [case.find("failure") is not None for case in suite.findall("testcase")] == [False, True]
    assert suite.find("testcase/failure").get("message") == (
        "check 1: 79.50 % against 80.00 %: a drop of 0.50 points, at most 1 accepted"
    )
    assert (root.get("tests"), root.get("failures"), suite.get("failures")) == ("3", "2", "1")


def test_a_target_that_nothing_is_held_against_is_skipped() -> None:
    bare = make_target_result().model_copy(update={"gate": Gate(tolerance_points=1.0, checks=())})
    (suite,) = read(render_junit(make_run(bare).model_copy(update={"export_parity": None})))
    assert suite.get("skipped") == "1"
    assert suite.find("testcase/skipped").get("message") == "nothing to hold the target against"


def test_hostile_names_are_escaped_in_xml(harmed: RunResult) -> None:
    evil = harmed.name + "\x00\x1b[2J\ud800\ufffe]]>"
    root = read(render_junit(harmed.model_copy(update={"name": evil})))
    assert root.get("name") == f"modelport {harmed.name}\\x00\\x1b[2J\\ud800\\ufffe]]>"


def test_the_files_are_written_by_the_job(demo: RunResult, demo_directory: Path) -> None:
    assert (demo_directory / "junit.xml").read_text(encoding="utf-8") == render_junit(demo)
    assert (demo_directory / "model-card.md").read_text(encoding="utf-8") == render_model_card(demo)
    assert (demo_directory / "report.md").read_text(encoding="utf-8") == render_markdown(demo)
