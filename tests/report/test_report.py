"""The run's report, the demo's, in a real browser: what it shows, to whom, on screen, phone and paper; and that names stay text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from modelport.report import write_reports
from modelport.report.charts import DARK, TEXT
from modelport.results import RunResult

OPEN_ALL = "document.querySelectorAll('details').forEach(part => part.open = true)"
FIRST_COLUMN = "table => [...table.tBodies[0].rows].map(row => row.cells[0].textContent)"
CHART_TEXT = "document.querySelector('#chart-throughput .xtick text').style.fill"


def rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[place : place + 2], 16)) for place in (1, 3, 5))})"


@pytest.fixture(scope="module")
def report(demo_directory: Path) -> Path:
    return demo_directory / "report.html"


@pytest.fixture(scope="module")
def desktop(report: Path, open_page: Any) -> Iterator[tuple[Any, list[str]]]:
    """The report at desktop width, in the light theme; tests leave it as they found it."""
    page, problems = open_page(report, color_scheme="light")
    yield page, problems
    page.close()


@pytest.fixture(scope="module")
def shown(harmed: RunResult, pictures: dict[str, bytes], open_page: Any, tmp_path_factory: Any) -> Iterator[Any]:
    """The report of `harmed`, and what it complained of."""
    directory = tmp_path_factory.mktemp("harmed")
    write_reports(harmed, directory, pictures)
    page, problems = open_page(directory / "report.html")
    yield page, problems
    page.close()


def test_it_opens_without_an_error_or_a_request_and_draws_every_chart(desktop: Any, demo: RunResult) -> None:
    page, problems = desktop
    assert page.locator("#chart-throughput .bars .point").count() == 5 * len(demo.targets)
    for target in demo.targets:
        assert page.locator(f"#chart-stages-{target.name} .bars .point").count() == 3 * len(target.inference.stages)
    closed = page.locator("details .plot").count()
    page.evaluate(OPEN_ALL)
    for plot in page.locator("details .plot").all():
        plot.locator(".main-svg").first.wait_for()
    assert closed == len(demo.targets) - 1, "the other targets' confusion waits in closed details"
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = false)")
    assert problems == []


def test_the_verdict_and_the_three_answers_come_first(desktop: Any, demo: RunResult) -> None:
    page, _ = desktop
    assert page.inner_text("header [role=status]").endswith("PASSED: all 3 targets kept what the source can do")
    cards = page.locator("header .card")
    assert cards.locator("h2").all_inner_texts() == ["Did the accuracy hold?", "How fast?", "On what?"]
    fastest = max((target.best for target in demo.targets), key=lambda bench: bench.throughput)
    assert f"{fastest.throughput:,.0f} img/s" in cards.nth(1).inner_text()
    assert demo.environment.cpu in cards.nth(2).inner_text()


def test_every_figure_and_its_command_are_on_the_page(desktop: Any, demo: RunResult) -> None:
    text = desktop[0].locator("main").text_content()
    for target in demo.targets:
        for bench in target.performance:
            assert f"{bench.throughput:,.1f}" in text
        assert f"{target.accuracy.interval95[0].low * 100:.2f}–" in text
    assert demo.onnx_sha256 in text
    for command in demo.commands:
        assert command.line in text


def test_tables_sort_by_mouse_and_by_keyboard(desktop: Any) -> None:
    page, _ = desktop
    table = page.locator("h2:has-text('Speed') ~ .scroll table").first
    head = table.locator("thead th").first
    batches = ["1", "4", "8", "16", "32"]
    assert table.evaluate(FIRST_COLUMN) == batches
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    assert (head.get_attribute("aria-sort"), table.evaluate(FIRST_COLUMN)) == ("descending", batches[::-1])
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert (head.get_attribute("aria-sort"), table.evaluate(FIRST_COLUMN)) == ("ascending", batches)


def test_figures_sort_as_numbers_and_what_has_none_comes_last(desktop: Any, demo: RunResult) -> None:
    page, _ = desktop
    table = page.locator("#summary ~ .scroll table").first
    source = f"{demo.source_name} (source)"
    assert table.evaluate(FIRST_COLUMN)[0] == source, "it has no speed and no error of its own"
    for title, key in (
        ("best pure img/s", lambda target: target.best.throughput),
        ("relative error", lambda target: target.parity.relative_error),
    ):
        names = [target.name for target in sorted(demo.targets, key=key)]
        for expected in (names[::-1], names):
            table.locator(f"thead button:text-is('{title}')").click()
            assert table.evaluate(FIRST_COLUMN) == [*expected, source]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_mend(report: Path, open_page: Any, scheme: str) -> None:
    """Contrast in both themes, headings in order, names of controls, tables' heads: axe-core's rules, everything opened."""
    page, _ = open_page(report, color_scheme=scheme)
    page.evaluate(OPEN_ALL)
    found = Axe().run(page).response
    page.close()
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found["violations"]] == []
    assert {"color-contrast", "heading-order", "page-has-heading-one"} <= {rule["id"] for rule in found["passes"]}


def test_the_keyboard_skips_to_the_content_and_scrolls_wide_tables(report: Path, open_page: Any) -> None:
    page, _ = open_page(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.locator(".scroll:not([tabindex='0'])").count() == 0
    page.close()


def test_every_chart_is_told_in_words(desktop: Any) -> None:
    page, _ = desktop
    said = page.locator(".plot").evaluate_all("all => all.map(plot => plot.parentElement.getAttribute('aria-label'))")
    assert all(len(text) > 30 for text in said)
    assert page.locator(".plot .main-svg:not([aria-hidden='true'])").count() == 0, (
        "loose numbers of axes are not read out"
    )


@pytest.mark.parametrize("width", [390, 320])
def test_it_does_not_scroll_sideways_on_a_phone(report: Path, open_page: Any, width: int) -> None:
    page, problems = open_page(report, width=width)
    page.evaluate(OPEN_ALL)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    widest = page.locator(".plot:visible").evaluate_all(
        "plots => Math.max(...plots.map(p => p.querySelector('.main-svg').clientWidth))"
    )
    page.close()
    assert widest <= width
    assert problems == []


def test_charts_follow_the_theme(desktop: Any) -> None:
    page, _ = desktop
    assert page.evaluate(CHART_TEXT) == rgb(TEXT)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{CHART_TEXT} === '{rgb(DARK[TEXT])}'")
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{CHART_TEXT} === '{rgb(TEXT)}'")


def test_it_prints_in_light_colours_with_charts_that_fit_and_commands_shown(report: Path, open_page: Any) -> None:
    page, problems = open_page(report, color_scheme="dark")
    page.evaluate(
        """() => addEventListener("beforeprint", () => { window.printed = {
             text: document.querySelector('#chart-throughput .xtick text').style.fill,
             widest: Math.max(...[...document.querySelectorAll('.plot .main-svg')].map(svg => svg.clientWidth)),
             closed: document.querySelectorAll('details.commands:not([open])').length,
        }})"""
    )
    pdf = page.pdf(format="A4")
    printed = page.evaluate("window.printed")
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") <= 30
    assert printed["text"] == rgb(TEXT)
    assert 0 < printed["widest"] <= 690
    assert printed["closed"] == 0
    page.wait_for_function(f"{CHART_TEXT} === '{rgb(DARK[TEXT])}'")
    assert page.locator("details.commands[open]").count() == 0
    assert problems == []
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


def test_hostile_names_stay_text(shown: Any, harmed: RunResult) -> None:
    page, problems = shown
    page.evaluate(OPEN_ALL)
    page.hover("#chart-accuracy .nsewdrag")
    assert page.evaluate("window.hacked") is None
    assert page.inner_text("h1") == harmed.name
    assert harmed.name in page.title()
    assert page.locator(".sheet .key").first.text_content() == harmed.name
    assert harmed.name in page.locator(".sheet img").first.get_attribute("alt")
    assert page.locator("main script:not([type])").count() == 0
    assert problems == []


def test_the_contact_sheet_shows_what_changed_and_the_surest_mistakes(shown: Any, harmed: RunResult) -> None:
    page, _ = shown
    changed, mistakes = page.locator(".sheet").all()
    assert (
        "The 2 surest of 20 that differ from" in page.locator("h3:has-text('Changed decisions') + .note").inner_text()
    )
    lines = changed.locator("li").nth(0).locator("span").all_inner_texts()
    assert lines[1:] == ["label 3", "source: 3 (60% sure)", "now: 5 (97% sure), wrong"]
    gone = changed.locator("li").nth(1)
    assert gone.locator("img").count() == 0, "a report is made although an image has gone"
    assert gone.locator("span").all_inner_texts() == ["no picture", "gone.png", "no label", "source: 2", "now: 1"]
    assert mistakes.locator("li").count() == 2
    assert (
        mistakes.locator("li").nth(0).locator("span").all_inner_texts()[2]
        == "taken for 5 by 2 targets (at least 97% sure)"
    )
    assert changed.locator("img").first.evaluate("image => image.naturalWidth") == 32


def test_a_failed_gate_leads_the_page(demo: RunResult, open_page: Any, tmp_path: Path) -> None:
    first = demo.targets[0]
    check = first.gate.checks[0].model_copy(update={"passed": False})
    failed = first.model_copy(update={"gate": first.gate.model_copy(update={"checks": (check,)})})
    write_reports(demo.model_copy(update={"targets": (failed,)}), tmp_path)
    page, _ = open_page(tmp_path / "report.html")
    assert page.locator(".verdict.bad").inner_text() == f"✗ FAILED: {first.name} did not pass its gate"
    assert page.title().startswith("digits: FAILED")
    assert "No" in page.locator(".card").first.inner_text()
    page.close()


def test_it_is_small_and_whole(demo: RunResult, demo_directory: Path) -> None:
    assert (demo_directory / "report.html").stat().st_size < 3_000_000
    assert RunResult.parse(demo.jsonable(), "again") == demo
    assert {"run.json", "report.html", "report.md", "model-card.md", "junit.xml"} <= {
        path.name for path in demo_directory.iterdir()
    }
    shown = [decision for target in demo.targets for decision in target.mistakes]
    page = (demo_directory / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == len({decision.key for decision in shown}) > 0


def test_the_commands_name_each_part(demo: RunResult) -> None:
    assert {command.part for command in demo.commands} == {"model", "accuracy", "performance"}
    verbs = {command.line.split()[1] for command in demo.commands}
    assert verbs == {"export", "compile", "infer", "evaluate", "bench"}
