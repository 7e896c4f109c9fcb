"""The history's page in a real browser: charts, filters, links; names that stay text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelport.report import dashboard
from modelport.report.dashboard import render_history_html
from modelport.results.history import AccuracyRow, HistoryRow, SpeedRow

HOSTILE = """<script>window.hacked = 1</script>"><img src=x onerror="window.hacked = 1"></script>&lt;b&gt;"""
Open = Callable[..., tuple[Any, list[str]]]


def speed(engine: str, batch: int, throughput: float, doubtful: str | None = None) -> SpeedRow:
    return SpeedRow(
        configuration=f"{engine}-bf16, batch {batch}", engine=engine, precision="bf16", batch_size=batch, throughput=throughput,
        median_ms=1e3 * batch / throughput, doubtful=doubtful,
    )  # fmt: skip


def accuracy(engine: str, top1: float) -> AccuracyRow:
    return AccuracyRow(
        target=f"{engine}-bf16",
        engine=engine,
        precision="bf16",
        top1=top1,
        top5=0.999,
        images=360,
        e2e=88.0,
        passed=True,
    )


def row(number: int, **more: object) -> HistoryRow:
    """An entry; the higher the number, the later."""
    engines = ("openvino", "onnxruntime")
    values = {
        "id": f"{number:064x}"[::-1],
        "kind": "run",
        "started": f"2026-11-{number:02}T08:30:00+00:00",
        "name": "digits",
        "model": "cspresnext50",
        "verdict": "failed" if number == 3 else "passed",
        "place": f"/work/runs/{number}",
        "machine": "Imaginary 9000, 8 cores",
        "environment": "ee" * 32,
        "speeds": tuple(
            speed(engine, batch, (400 if engine == "openvino" else 250) * (1 + 0.05 * batch) * (1 + 0.01 * number),
                  "others used the machine" if number == 5 else None)
            for engine in engines for batch in (1, 8)
        ),
        "accuracies": tuple(accuracy(engine, 0.99 - 0.002 * (number == 3)) for engine in engines),
    }  # fmt: skip
    return HistoryRow(**values | more)


ROWS = [row(number) for number in range(12, 0, -1)]
BENCH = row(
    13,
    kind="bench",
    name="resnet18",
    model="resnet18",
    verdict=None,
    accuracies=(),
    speeds=(speed("openvino", 32, 2000.0),),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dashboard") / "history.html"
    path.write_text(render_history_html([BENCH, *ROWS]), encoding="utf-8")
    return path


def shown(page: Any, table: str = "entries") -> int:
    return page.locator(f"#{table} tbody tr:visible").count()


def points(page: Any, chart: str) -> int:
    return page.evaluate(
        f"document.getElementById('chart-{chart}').data.filter((t) => t.visible !== false).reduce((n, t) => n + t.x.length, 0)"
    )


def test_charts_and_tables_hold_every_figure(open_page: Open, written: Path) -> None:
    page, problems = open_page(written)
    page.wait_for_selector("#chart-top1 .main-svg")
    assert (points(page, "throughput"), points(page, "top1")) == (12 * 4 + 1, 12 * 2)
    assert page.locator("#chart-throughput .scatterlayer .point").count() == 49
    assert (shown(page), shown(page, "figures")) == (13, 12 * 6 + 1)
    assert page.locator("#entries").inner_text().count("FAILED") == 1
    assert page.inner_text("#shown") == "13 of 13 shown."
    assert problems == []
    assert written.stat().st_size < 6_000_000


def test_filters_go_through_tables_and_charts(open_page: Open, written: Path) -> None:
    page, problems = open_page(written)
    page.wait_for_selector("#chart-top1 .main-svg")
    page.select_option("#filter-engine", "onnxruntime")
    page.select_option("#filter-batch", "8")
    page.wait_for_function(
        "document.getElementById('chart-throughput').data.filter((t) => t.visible !== false).length === 1"
    )
    assert (shown(page), points(page, "throughput"), points(page, "top1")) == (12, 12, 12)
    assert shown(page, "figures") == 12
    page.select_option("#filter-verdict", "failed")
    assert shown(page) == 1
    page.wait_for_function("document.querySelectorAll('#chart-throughput .scatterlayer .point').length === 1")
    assert page.inner_text("#shown") == "1 of 13 shown."
    page.click("button[type=reset]")
    page.wait_for_function("document.querySelectorAll('#chart-throughput .scatterlayer .point').length === 49")
    assert shown(page) == 13
    page.fill("#filter-text", "RESNET18")
    assert shown(page) == 1
    page.fill("#filter-text", "")
    page.fill("#filter-since", "2026-11-11")
    assert shown(page) == 3
    page.select_option("#filter-kind", "bench")
    assert (shown(page), points(page, "top1")) == (1, 0)
    assert problems == []


def test_a_filter_stays_when_the_theme_changes(open_page: Open, written: Path) -> None:
    page, problems = open_page(written, color_scheme="light")
    page.select_option("#filter-engine", "onnxruntime")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "document.getElementById('chart-throughput').data.filter((t) => t.visible !== false).length === 2"
    )
    assert points(page, "throughput") == 24
    assert problems == []


def test_tables_sort_and_ids_lead_to_their_entry(open_page: Open, written: Path) -> None:
    page, problems = open_page(written)
    page.click("#figures thead button:text-is('img/s')")
    assert "2,000.0" in page.locator("#figures tbody tr").first.inner_text()
    page.locator("#figures tbody tr a").first.click()
    assert page.url.endswith(f"#entry-{BENCH.id}")
    assert "resnet18" in page.locator("#entries tr:target").inner_text()
    assert problems == []


def test_a_point_leads_to_its_entry(open_page: Open, written: Path) -> None:
    page, _ = open_page(written)
    page.wait_for_selector("#chart-top1 .main-svg")
    point = page.locator("#chart-throughput .scatterlayer .point").nth(5)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#chart-throughput .hovertext")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("location.hash.startsWith('#entry-')")


def test_hostile_names_stay_text(open_page: Open, tmp_path: Path) -> None:
    bad = speed("openvino", 1, 10.0, HOSTILE).model_copy(update={"configuration": HOSTILE, "engine": HOSTILE})
    entry = row(1, name=HOSTILE, model=HOSTILE, place=HOSTILE, machine=HOSTILE, speeds=(bad,))
    (tmp_path / "history.html").write_text(render_history_html([entry]), encoding="utf-8")
    page, problems = open_page(tmp_path / "history.html")
    assert page.evaluate("window.hacked") is None
    assert HOSTILE in page.locator("#entries tbody tr").first.inner_text()
    assert HOSTILE in page.locator("#figures").inner_text()
    assert page.locator("#chart-throughput").evaluate("(plot) => plot.data[0].name").startswith("&lt;script&gt;")
    assert page.locator("img").count() == 0
    page.select_option("#filter-engine", HOSTILE)
    assert shown(page) == 1
    assert problems == []


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_does_not_scroll_sideways(open_page: Open, written: Path, width: int) -> None:
    page, _ = open_page(written, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_empty_history_has_a_page(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "history.html").write_text(render_history_html([]), encoding="utf-8")
    page, problems = open_page(tmp_path / "history.html")
    assert "0 entries" in page.inner_text("header")
    assert problems == []


def test_the_oldest_figures_of_a_long_history_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "MOST_FIGURES", 10)
    text = render_history_html(ROWS)
    assert "62 older figures are left out" in text
