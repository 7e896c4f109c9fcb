"""What the tables say of doubtful figures: a busy machine, and pure inference that the real-data run does not bear out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_results import make_bench, make_inference, make_run, make_target_result

from modelport.report import rows
from modelport.report.html import render_html
from modelport.report.markdown import render_markdown
from modelport.results import Hygiene, Interface, RunResult, TargetResult

BUSY = Hygiene(
    busy_before=0.0, busy_during=0.8, reasons=("other processes used 0.80 cores meanwhile (most by make, pid 7: 0.75)",)
)
IDLE = Hygiene(busy_before=0.02, busy_during=0.01)


def target(
    pure: float | None, interface: float, *, bench: Hygiene | None = None, run: Hygiene | None = None
) -> TargetResult:
    """Pure inference at `pure` and a real-data run at `interface` images a second, both at batch 4."""
    other = make_bench(batch_size=8, wall_s=1.0)
    same = (make_bench(latencies_s=(0.1,), wall_s=4 / pure, hygiene=bench),) if pure else ()
    inference = make_inference().model_copy(
        update={"interface": Interface(throughput=interface, busy_s=0.8 if interface else 0.0), "hygiene": run}
    )
    return make_target_result(True, performance=(other, *same)).model_copy(update={"inference": inference})


@pytest.mark.parametrize(
    ("pure", "interface", "expected"),
    [(110.0, 100.0, 0.1), (90.0, 100.0, -0.1), (250.0, 100.0, 1.5), (None, 100.0, None), (100.0, 0.0, None)],
)
def test_disagreement_is_a_share_of_the_real_data_figure(pure, interface, expected):
    found = target(pure, interface).pure_disagreement

    assert found == (None if expected is None else pytest.approx(expected))


def test_disagreement_is_written(tmp_path: Path):
    make_run(target(120.0, 100.0)).write(tmp_path / "run.json")

    (document,) = json.loads((tmp_path / "run.json").read_text())["targets"]
    assert document["pure_disagreement"] == pytest.approx(0.2)
    assert RunResult.read(tmp_path / "run.json").targets[0].pure_disagreement == pytest.approx(0.2)


@pytest.mark.parametrize(("pure", "interface"), [(109.0, 100.0), (91.0, 100.0), (None, 100.0)])
def test_agreement_needs_no_word(pure, interface):
    assert len(rows.three_speeds(make_run(target(pure, interface))).notes) == 1


def test_disagreement_is_said_of_each_target():
    table = rows.three_speeds(make_run(target(1251.0, 1000.0), target(100.0, 100.0), target(62.5, 100.0)))

    assert table.notes[1:] == [
        "openvino-bf16: pure inference (1,251.0) is 25% above the interface throughput of the real-data run (1,000.0) at batch 4; "
        "the real-data figure counts.",
        "openvino-bf16: pure inference (62.5) is 38% below the interface throughput of the real-data run (100.0) at batch 4; "
        "the real-data figure counts.",
    ]


def test_the_table_says_how_many_rounds_there_were():
    one = make_bench()
    many = one.model_copy(update={"latencies_s": one.latencies_s * 3})
    (alike,), (unlike,) = (rows.bench_table(found, "t").notes for found in ([one, one], [many, one]))
    assert f"; {one.rounds} rounds after {one.warmup} of warmup;" in alike
    assert f"; {one.rounds} to {many.rounds} rounds, more where batches are short, after" in unlike


def test_a_disturbed_measurement_is_marked_in_its_table():
    table = rows.bench_table([make_bench(hygiene=BUSY), make_bench(batch_size=8, hygiene=IDLE), make_bench()], "t")

    assert table.notes[1:] == [
        "Batch 4: the machine was busy: other processes used 0.80 cores meanwhile (most by make, pid 7: 0.75)."
    ]


def test_a_disturbed_real_data_run_is_marked_in_its_table():
    busy, idle = (make_inference().model_copy(update={"hygiene": each}) for each in (BUSY, IDLE))

    assert rows.stages(busy, "t").notes[1:] == [f"Real-data run: the machine was busy: {BUSY.text}."]
    assert len(rows.stages(idle, "t").notes) == len(rows.stages(make_inference(), "t").notes) == 1


def test_the_summary_counts_disturbed_measurements():
    def notes(*targets: TargetResult) -> list[str]:
        return [note for note in rows.summary(make_run(*targets)).notes if "busy" in note]

    assert notes(target(100.0, 100.0, bench=BUSY, run=BUSY), target(100.0, 100.0)) == [
        "The machine was busy in 2 of 6 measurements, so the speeds are doubtful "
        f"(first: openvino-bf16, pure inference, batch 4: {BUSY.text})."
    ]
    assert notes(target(100.0, 100.0, run=BUSY)) == [
        "The machine was busy in 1 of 3 measurements, so the speeds are doubtful "
        f"(first: openvino-bf16, real-data run: {BUSY.text})."
    ]
    assert notes(target(100.0, 100.0, bench=IDLE, run=IDLE), target(100.0, 100.0)) == []


def test_a_machine_that_was_not_equally_fast_is_told():
    def paced(*paces: tuple[float, float] | None) -> list[Hygiene]:
        return [IDLE.model_copy(update={"pace_s": pace}) for pace in paces]

    def summary(*paces: tuple[float, float] | None) -> list[str]:
        run = make_run(*(target(100.0, 100.0, bench=each, run=IDLE) for each in paced(*paces)))
        return [note for note in rows.summary(run).notes if "itself" in note]

    told = "The machine itself was 25% slower at times than at others, so speeds are not quite comparable."
    assert summary((4.0e-3, 4.4e-3), (5.0e-3, 4.8e-3)) == [told]
    assert summary((4.0e-3, 4.4e-3), (4.4e-3, 4.4e-3)) == summary(None, (4.0e-3, 4.0e-3)) == summary(None, None) == []
    (hygiene,) = paced((5.0e-3, 4.0e-3))
    assert rows.bench_table([make_bench(hygiene=hygiene)], "t").notes[1:] == [told]


def test_the_reports_carry_the_notes():
    result = make_run(target(200.0, 100.0, bench=BUSY))

    for text in (render_markdown(result), render_html(result)):
        assert "the real-data figure counts" in text
        assert "The machine was busy in 1 of 3 measurements" in text
    assert "Batch 4: the machine was busy" in render_html(result)
