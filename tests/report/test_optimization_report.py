"""Tables and page of an optimisation."""

from __future__ import annotations

import pytest

from modelport.report.optimization import (
    decisions_table,
    operators_table,
    optimization_verdict,
    render_optimization_html,
)
from modelport.results import Environment, Hygiene, OptimizationResult, PairedTiming, Parity, PassDecision

ENVIRONMENT = Environment(
    modelport="1", python="3", system="Linux", machine="x86_64", cpu="a processor", cpu_family="zen4", cpu_features=(),
    cores=2, memory_bytes=2**30, packages={},
)  # fmt: skip
PROOF = Parity(
    against="model.onnx", samples=8, max_abs_error=2e-7, mean_abs_error=1e-8, scale=0.5, cosine=1.0, top1_agreement=1.0, tolerance=1e-5
)  # fmt: skip


def timing(percent: float, *, busy: bool = False) -> PairedTiming:
    before = tuple(0.01 * (1 + (percent + step) / 100) for step in range(-3, 4))
    reasons = ("others",) if busy else ()
    return PairedTiming(
        before_s=before, after_s=(0.01,) * 7, processes=2, hygiene=(Hygiene(busy_before=0, reasons=reasons),)
    )


def decision(name: str, outcome: str, reason: str, **more: object) -> PassDecision:
    return PassDecision(name=name, summary="", outcome=outcome, reason=reason, **more)


def result(*decisions: PassDecision, **more: object) -> OptimizationResult:
    facts = {
        "source": "model.onnx", "source_sha256": "0", "output_sha256": "1", "model": None, "opset": 18, "target": "openvino",
        "engine_version": "1", "precision": "bf16", "batch_size": 4, "measured": True, "basis": "measured on OpenVINO: so",
        "min_gain": 0.01, "rounds": 7, "seconds": 0.5, "tolerance": 1e-5, "noise_samples": 8, "images": 16,
        "operators_before": {"Conv": 55, "Split": 4, "Concat": 4}, "operators_after": {"Conv": 59, "Concat": 4},
        "environment": ENVIRONMENT,
    }  # fmt: skip
    return OptimizationResult(**facts | {"decisions": decisions} | more)


MEASURED = result(
    decision("simplify", "not-applicable", "there is nothing"),
    decision("split_convolutions", "kept", "faster", sites=4, parity=PROOF, timing=timing(6)),
    decision("sum_concat_convolution", "rejected", "slower", sites=4, parity=PROOF, timing=timing(-8, busy=True)),
    decision("merge_groups:8", "kept", "faster", sites=2, parity=PROOF, timing=timing(5)),
    decision("merge_groups:16", "refuted", "its scores differ", sites=2, parity=PROOF, refused=("a", "b", "c", "d")),
    decision("merge_groups:32", "failed", "<the engine> refused it", sites=2),
    total=timing(11),
)


def test_a_row_for_every_pass():
    table = decisions_table(MEASURED)

    assert [row[0] for row in table.rows] == [item.name for item in MEASURED.decisions] + ["all that was kept"]
    assert table.rows[0][1:] == ("—", "—", "—", "—", "does not apply", "there is nothing")
    assert table.rows[1][1:] == ("4", "+6.0 %", "+3.0 … +9.0 %", "2.0e-07 (4.0e-07)", "kept", "faster")
    assert table.rows[2][2:4] == ("−8.0 %", "−11.0 … −5.0 %")
    assert (table.rows[4][5], table.rows[5][5]) == ("REFUTED", "FAILED")
    assert table.rows[6][2] == "+11.0 %"
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_the_notes_say_how_it_was_decided_and_what_is_doubtful():
    notes = decisions_table(MEASURED).notes

    assert notes[0] == "Measured on OpenVINO: so."
    assert "against model.onnx in float32 on 8 random inputs and 16 images" in notes[1]
    assert "at most 1e-05 is accepted" in notes[1]
    assert "Others used the machine during 1 of 4 timings, so their gains are doubtful: measure again." in notes
    assert notes[-1] == "merge_groups:16: a; b; c (and 1 more)."


def test_the_verdict():
    by_rule = result(decision("simplify", "kept", "by rule"), target="ascend", measured=False, precision="fp16")

    assert optimization_verdict(MEASURED) == (
        "KEPT for openvino bf16, batch 4: split_convolutions, merge_groups:8; +11.0 % (95 %: +8.0 … +14.0) in all"
    )
    assert optimization_verdict(by_rule) == "KEPT by rule for ascend: simplify; equal to model.onnx, and not measured"
    assert (
        optimization_verdict(result()) == "NOTHING KEPT for openvino bf16, batch 4: the output is model.onnx unchanged"
    )


def test_unmeasured_there_are_no_columns_of_gains():
    table = decisions_table(result(decision("simplify", "kept", "by rule", sites=3), measured=False))

    assert table.columns == ("pass", "sites", "largest difference", "", "why")
    assert table.rows == [("simplify", "3", "—", "kept", "by rule")]
    assert not any("Gain" in note for note in table.notes)


def test_operators():
    table = operators_table(MEASURED)

    assert table.rows == [("Conv", "55", "59", "+4"), ("Split", "4", "0", "−4"), ("all operators", "63", "63", "0")]
    assert operators_table(result(operators_after=MEASURED.operators_before)) is None


def test_it_is_read_back_as_it_was_written(tmp_path):
    MEASURED.write(tmp_path / "x.json")

    assert OptimizationResult.read(tmp_path / "x.json") == MEASURED
    assert MEASURED.jsonable()["kept"] == ["split_convolutions", "merge_groups:8"]
    assert MEASURED.jsonable()["decisions"][1]["timing"]["ratio"] == pytest.approx(1.06)


def test_the_page():
    page = render_optimization_html(MEASURED)

    assert "chart-gains" in page
    assert "&lt;the engine&gt; refused it" in page
    assert "<script src=" not in page
    plain = render_optimization_html(result(decision("simplify", "kept", "by rule"), measured=False))
    assert "chart-gains" not in plain
    assert len(plain) < 50_000, "without a chart the plotting library is left out"
