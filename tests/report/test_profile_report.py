"""The profile's tables and page: figures of the result, told apart by whom they concern; and nothing missing where data is."""

from __future__ import annotations

import msprof
import pytest

from modelport.measure.cost import limit
from modelport.measure.profile import profile
from modelport.report.profile import (
    accounting_table,
    islands_table,
    operators_table,
    origin,
    profile_tables,
    profile_verdict,
    render_profile_html,
    types_table,
)
from modelport.results import Hygiene, MachinePeaks, ProfileResult
from modelport.spec import Precision

PEAKS = MachinePeaks(engine="openvino", operations={Precision.F32: 200e9}, bandwidth=40e9)


@pytest.fixture(params=["onnxruntime", "openvino"])
def result(request, csp_profile) -> ProfileResult:
    """A profile held against an imagined machine."""
    found = csp_profile(request.param)
    return found.model_copy(update={"peaks": PEAKS, "operators": tuple(limit(each, PEAKS) for each in found.operators)})


@pytest.fixture
def device(tmp_path) -> ProfileResult:
    msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows())
    return profile(tmp_path)


def changed(result: ProfileResult, **values: object) -> ProfileResult:
    return ProfileResult.parse(result.jsonable() | values, "test")


def test_the_sum_is_held_against_the_latency(result):
    table = accounting_table(result)

    assert [row[0] for row in table.rows] == [
        f"{len(result.operators)} operators", "between and around them", "latency of a batch", "latency with counters on",
    ]  # fmt: skip
    assert table.rows[0][2] == f"{result.coverage:.1%}"
    assert table.rows[2][2] == "100.0%"
    assert table.notes[0].startswith(f"{result.engine} {result.engine_version}, batch 2, f32, random input; 6 rounds")
    assert any("counters" in note for note in table.notes[1:])


def test_what_makes_times_doubtful_is_said(result):
    idle = changed(result, latencies_s=[result.operators_us / 1e6], hygiene=None)
    assert not any("care" in note or "busy" in note for note in accounting_table(idle).notes)

    off = changed(result, latencies_s=[result.operators_us / 1e6 * 2])
    assert "The operators add up to 50% of the latency: read their times with care." in accounting_table(off).notes
    busy = result.model_copy(update={"hygiene": Hygiene(busy_before=1.0, reasons=("make was running",))})
    assert "The machine was busy: make was running." in accounting_table(busy).notes


def test_types_are_summed_up(result):
    table = types_table(result)

    assert [row[0] for row in table.rows] == [each.type for each in result.types]
    assert sum(float(row[4].rstrip("%")) for row in table.rows) == pytest.approx(100, abs=1)
    assert all(row[8].endswith("%") for row in table.rows)


def test_the_longest_operators_come_first(result):
    table = operators_table(result, 3)

    longest = sorted(result.operators, key=lambda each: -each.duration_us)
    assert [row[0] for row in table.rows] == [origin(each) for each in longest[:3]]
    assert table.title == "Top 3 operators"
    assert table.rows[0][7] == f"{longest[0].share:.1%}"
    assert "200 GFLOP/s in f32, 40.0 GB/s, all cores" in table.notes[0]
    assert table.rows[0][10] == f"{longest[0].limit_share:.0%} {longest[0].bound}"


def test_an_operator_is_called_after_its_onnx_nodes(result):
    fused = next(each for each in result.operators if "Conv_5" in each.source)

    assert origin(fused) == "Conv_5 +1"
    assert origin(fused.model_copy(update={"source": ()})) == fused.name


def test_islands_of_one_pattern_are_one_row(result):
    table = islands_table(result)
    assert table is not None
    cells = {row[5].partition(":")[0]: row for row in table.rows}

    assert cells["split_convolutions"][0].startswith("Conv → LeakyRelu → Split → ")
    assert cells["split_convolutions"][6] == "Split_4"
    assert cells["sum_concat_convolution"][6] == "Concat_11"
    assert sum(int(row[2]) for row in table.rows) == len(result.islands)
    assert f"{len(result.islands)} islands" in table.notes[0]
    short = islands_table(result, 1)
    assert short is not None
    assert len(short.rows) == 1
    assert f"Not shown: {len(table.rows) - 1} more patterns" in short.notes[1]


def test_the_verdict_says_what_matters(result, device):
    assert "of the time is" in profile_verdict(result)
    assert "known rewrites may save" in profile_verdict(result)
    assert profile_verdict(device) == (
        "41% of the time is TransData; 9,915 µs (60.3%) only moves data, of which known rewrites may save 9,900 µs (60.2%)."
    )
    assert profile_verdict(changed(result, islands=[])).endswith("; nothing only moves data.")
    kept = [island.model_copy(update={"rewrite": None}).jsonable() for island in result.islands]
    assert profile_verdict(changed(result, islands=kept)).endswith(
        "only moves data, and no known rewrite removes any of it."
    )


def test_a_devices_profile_has_the_same_tables(device):
    tables = profile_tables(device)

    assert [table.title for table in tables] == ["Sum and latency", "By type", "Top 15 operators", "Data movement"]
    assert tables[0].rows[1][0] == "waiting between them"
    assert tables[0].notes == [f"From {device.where}: 1 round, batch 32, fp16. Latency: first start to last end."]
    assert "without the machine's peaks there is no limit" in tables[2].notes[0]
    assert {row[8] for row in tables[1].rows} == {"—"}


def test_without_starts_there_is_no_latency(tmp_path):
    msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows(), "Op Name,OP Type,Task Duration(us)")

    result = profile(tmp_path)
    assert (result.latency_us, result.overhead_us, result.coverage) == (None, None, None)
    assert accounting_table(result).rows == [("16 operators", "16,455 µs", "—")]
    render_profile_html(result)


def test_the_page_holds_every_table_and_chart(result, device):
    page = render_profile_html(result)
    for text in ("csp: operator profile", "By type", "Data movement", "chart-types", "chart-longest", "chart-roofline"):
        assert text in page
    assert "http://" not in page.split("<body>")[1]

    assert "chart-roofline" not in render_profile_html(device).split("<body>")[1]


def test_names_are_escaped(result):
    evil = result.model_copy(update={"where": "<script>alert(1)</script>", "model": None})

    assert "<script>alert(1)" not in render_profile_html(evil)


def test_the_page_opens_without_errors_on_a_phone(csp_profile, tmp_path, open_page):
    found = csp_profile("openvino")
    with_limits = {"peaks": PEAKS, "operators": tuple(limit(each, PEAKS) for each in found.operators)}
    (tmp_path / "profile.html").write_text(render_profile_html(found.model_copy(update=with_limits)), encoding="utf-8")
    page, problems = open_page(tmp_path / "profile.html", width=390)
    for chart in ("types", "longest", "roofline"):
        page.wait_for_selector(f"#chart-{chart} .plot-container")
    width = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert (problems, width) == ([], 390)
