"""Reports: the demo's, opened in a real browser, and hostile names that stay text."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.report import rows, write_reports
from modelport.report.markdown import render_markdown
from modelport.results import BadImage, RunResult

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = "<script>window.hacked = 1</script>|`x`*"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


def opened(browser: Any, path: Path) -> tuple[Any, list[str]]:
    """A page with everything that it complained of or asked the network for."""
    page, problems = browser.new_page(viewport={"width": 1200, "height": 900}), []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: problems.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    page.goto(path.as_uri())
    return page, problems


def test_the_report_opens_without_an_error_and_draws_its_charts(
    browser: Any, demo_directory: Path, demo: RunResult
) -> None:
    page, problems = opened(browser, demo_directory / "report.html")
    page.wait_for_selector("#chart-throughput .bars .point")
    assert page.locator("#chart-throughput .bars .point").count() == 5 * len(demo.targets)
    assert page.locator("#chart-stages .bars .point").count() == 15 * len(demo.targets)
    assert "PASSED" in page.inner_text("[role=status]")
    assert problems == []


def test_the_page_does_not_scroll_sideways_on_a_phone(browser: Any, demo_directory: Path) -> None:
    page, _ = opened(browser, demo_directory / "report.html")
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_every_table_of_figures_is_on_the_page(browser: Any, demo_directory: Path, demo: RunResult) -> None:
    page, _ = opened(browser, demo_directory / "report.html")
    text = page.inner_text("main")
    for target in demo.targets:
        assert target.name in text
        for bench in target.performance:
            assert f"{bench.throughput:,.1f}" in text
    assert demo.onnx_sha256 in text
    page.locator("summary").first.click()
    assert "modelport evaluate" in page.inner_text("main")


def test_hostile_names_stay_text(browser: Any, demo: RunResult, tmp_path: Path) -> None:
    first = demo.targets[0]
    run = first.inference.model_copy(update={"bad_images": (BadImage(key=HOSTILE, reason="</title>" + HOSTILE),)})
    harmed = demo.model_copy(update={"name": HOSTILE, "targets": (first.model_copy(update={"inference": run}),)})
    write_reports(harmed, tmp_path)
    page, problems = opened(browser, tmp_path / "report.html")
    assert page.evaluate("window.hacked") is None
    assert HOSTILE in page.inner_text("h1")
    assert problems == []
    assert "<script>" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_markdown_has_every_target_and_every_command(demo: RunResult) -> None:
    text = render_markdown(demo)
    assert text.startswith("# digits: PASSED")
    for target in demo.targets:
        assert f"| {target.name} |" in text
    for command in demo.commands:
        assert command.line in text
    table_lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(re.match(r"\|.*\|$", line) for line in table_lines)


def test_the_commands_name_each_part(demo: RunResult) -> None:
    assert {command.part for command in demo.commands} == {"model", "accuracy", "performance"}
    verbs = {command.line.split()[1] for command in demo.commands}
    assert verbs == {"export", "compile", "infer", "evaluate", "bench"}


def test_a_failed_gate_leads_the_report(demo: RunResult) -> None:
    first = demo.targets[0]
    check = first.gate.checks[0].model_copy(update={"passed": False})
    failed = first.model_copy(update={"gate": first.gate.model_copy(update={"checks": (check,)})})
    result = demo.model_copy(update={"targets": (failed,)})
    assert rows.verdict(result) == "FAILED: openvino-f32 did not pass its gate"
    assert "FAILED" in render_markdown(result).splitlines()[0]


def test_run_json_reads_back_equal(demo: RunResult, demo_directory: Path) -> None:
    assert RunResult.parse(demo.jsonable(), "again") == demo
    assert (demo_directory / "report.html").stat().st_size < 6_000_000
