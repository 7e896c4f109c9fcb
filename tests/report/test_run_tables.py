"""What the run's report computes for itself: the three answers, the front, the contact sheet's captions, hygiene, classes."""

from __future__ import annotations

import json

import pytest
from test_results import make_accuracy, make_bench, make_gate, make_inference, make_run, make_target_result

from modelport.report import contact_sheet, front, rows, run_charts
from modelport.report.answers import answers, headline
from modelport.report.charts import plain, script_json
from modelport.report.html import render_html
from modelport.results import (
    ClassAccuracy,
    Confusion,
    Decision,
    EndToEnd,
    Gate,
    Hygiene,
    Paired,
    RunResult,
    TargetResult,
)
from modelport.spec import Precision


def target(speed: float, right: int, *, passed: bool = True, precision: str = "bf16") -> TargetResult:
    """A target that does `speed` images a second, with `right` of 40 images right."""
    bench = make_bench(latencies_s=(4 / speed,), wall_s=4 / speed)
    accuracy = make_accuracy(hits=(right, 40, 40, 40, 40))
    return make_target_result(passed, performance=(bench,)).model_copy(
        update={"precision": Precision(precision), "accuracy": accuracy}
    )


FAST, SURE, POOR = target(200, 36), target(100, 38, precision="f32"), target(90, 30, precision="int8")


def test_the_headline_is_the_fastest_that_kept_its_accuracy():
    wrong = target(900, 2, passed=False, precision="int8")

    assert headline(make_run(SURE, wrong, FAST)) is FAST
    assert headline(make_run(wrong)) is wrong


def test_the_three_answers():
    accuracy, speed, hardware = answers(make_run(SURE, FAST, target(900, 2, passed=False, precision="int8")))

    assert (accuracy.figure, accuracy.of) == ("No", "2 of 3 targets passed")
    assert accuracy.lines == (
        "openvino-bf16: top-1 90.00 % (95 %: 76.95–96.04 %), source 75.00 %",
        "3 of 40 decisions changed",
    )
    assert (speed.figure, speed.of) == ("200 img/s", "openvino-bf16, batch 4, the fastest that passed")
    assert speed.lines == ("pure inference, 10–90 %: 200–200", "20 img/s from file on disk to TopN, limited by decode")
    assert (hardware.figure, hardware.of) == ("Wonder 9000", "4 cores, 16 GiB of memory")
    assert hardware.lines == ("Linux 6.1", "openvino 2025.1")


def test_without_labels_source_or_benchmarks_the_answers_say_so():
    bare = make_target_result().model_copy(
        update={"accuracy": None, "paired": None, "gate": Gate(tolerance_points=1.0, checks=())}
    )
    accuracy, speed, _ = answers(make_run(bare))

    assert (accuracy.figure, accuracy.of, accuracy.lines) == ("Not known", "nothing to hold the targets against", ())
    assert (speed.figure, speed.of) == ("20 img/s", "openvino-bf16, from file on disk to TopN")


def test_the_front_is_what_no_other_beats_in_both():
    found = front.points(make_run(FAST, SURE, POOR))

    assert [(point.name, point.on_front) for point in found] == [
        ("openvino-bf16", True), ("openvino-f32", True), ("openvino-int8", False),
    ]  # fmt: skip
    table = front.front_table(found)
    assert table is not None
    assert table.columns == ("target", "pure inference at the best batch size, img/s", "top-1", "on the front")
    assert table.rows[0] == ("openvino-bf16", "200.0", "90.00 %", "yes")
    assert table.rows[2] == ("openvino-int8", "90.0", "75.00 %", "")


def test_equals_are_both_on_the_front():
    assert [point.on_front for point in front.points(make_run(FAST, FAST))] == [True, True]


def test_without_labels_the_front_is_of_unchanged_decisions_and_without_benchmarks_of_real_data():
    unlabelled = [each.model_copy(update={"accuracy": None, "performance": ()}) for each in (FAST, SURE)]
    first, _ = front.points(make_run(*unlabelled))

    assert (first.quality_name, first.quality) == ("decisions like the source's", pytest.approx(37 / 40))
    assert (first.speed_name, first.speed) == ("from file to TopN", 20.0)
    alone = [each.model_copy(update={"paired": None}) for each in unlabelled]
    assert front.points(make_run(*alone)) == []
    assert run_charts.tradeoff([]) is None


def with_mistakes(*mistakes: tuple[Decision, ...]) -> RunResult:
    return make_run(
        *(each.model_copy(update={"mistakes": made}) for each, made in zip((FAST, SURE), mistakes, strict=True))
    )


def test_a_mistake_of_several_targets_is_shown_once_the_surest_first():
    result = with_mistakes(
        (Decision(key="a", label=1, decided=2, confidence=0.5), Decision(key="b", label=1, decided=3, confidence=0.9)),
        (Decision(key="b", label=1, decided=3, confidence=0.8), Decision(key="a", label=1, decided=4, confidence=0.6)),
    )
    found = contact_sheet.mistakes(result, {"b": b"jpeg"})

    assert [each.lines for each in found] == [
        ("label 1", "taken for 3 by 2 targets (at least 80% sure)"),
        ("label 1", "openvino-bf16: 2 (50% sure)", "openvino-f32: 4 (60% sure)"),
    ]
    assert [each.source for each in found] == ["data:image/jpeg;base64,anBlZw==", None]
    assert found[0].text == "b: label 1; taken for 3 by 2 targets (at least 80% sure)"


def test_classes_are_told_by_their_names_where_the_model_has_them():
    made = (Decision(key="a", label=1, decided=0, confidence=0.5, before=1),)
    result = with_mistakes(made, ())
    names = tuple(f"name{number}" for number in range(result.model.num_classes))
    result = result.model_copy(update={"model": result.model.named(names)})

    assert contact_sheet.mistakes(result, {})[0].lines == ("label 1 name1", "openvino-bf16: 0 name0 (50% sure)")
    target = FAST.model_copy(update={"changed": made})
    assert contact_sheet.changed(target, {}, result.model.called)[0].lines[1:] == (
        "source: 1 name1",
        "now: 0 name0 (50% sure), wrong",
    )


def test_no_more_mistakes_are_shown_than_one_looks_at():
    many = tuple(Decision(key=str(number), label=0, decided=1, confidence=number / 100) for number in range(40))

    found = contact_sheet.mistakes(with_mistakes(many, ()), {})
    assert [each.key for each in found] == [str(number) for number in range(39, 27, -1)]


@pytest.mark.parametrize(
    ("decision", "lines"),
    [
        (Decision(key="a", label=4, decided=4, confidence=0.51, before=9), ("label 4", "source: 9", "now: 4 (51% sure), right")),
        (Decision(key="a", label=9, decided=4, before=9), ("label 9", "source: 9", "now: 4, wrong")),
        (Decision(key="a", label=None, decided=4, before=9), ("no label", "source: 9", "now: 4")),
    ],
)  # fmt: skip
def test_captions_of_changed_decisions(decision, lines):
    (found,) = contact_sheet.changed(FAST.model_copy(update={"changed": (decision,)}), {})

    assert found.lines == lines


def test_hygiene_is_told_of_every_measurement():
    reasons = ("make was running",)
    busy = Hygiene(
        busy_before=0.5, busy_during=0.25, clock_mhz=(2600.0, 1900.4), pace_s=(0.0043, 0.00531), reasons=reasons
    )
    short = Hygiene(busy_before=0.0)
    run = make_inference().model_copy(update={"hygiene": None})
    result = make_run(
        make_target_result(
            True, performance=(make_bench(hygiene=busy), make_bench(batch_size=8, hygiene=short))
        ).model_copy(update={"inference": run})
    )

    assert [row[1:] for row in rows.hygiene(result).rows] == [
        ("pure inference, batch 4", "0.50", "0.25", "2,600 → 1,900", "4.30 → 5.31", "BUSY: make was running"),
        ("pure inference, batch 8", "0.00", "—", "—", "—", "yes"),
        ("real-data run", "—", "—", "—", "—", "not watched"),
    ]


def test_batch_sizes_stand_side_by_side_though_targets_have_others():
    one = make_target_result(True, performance=(make_bench(latencies_s=(0.02,), wall_s=0.02),))
    two = make_target_result(True, performance=(make_bench(batch_size=8, latencies_s=(0.04,), wall_s=0.04),))
    table = rows.by_batch(make_run(one, two))

    assert table is not None
    assert table.rows == [
        ("4", "200.0 (200–200)", "—"),
        ("8", "—", "200.0 (200–200)"),
    ]
    latencies = rows.latencies(make_run(one, two))
    assert latencies is not None
    assert latencies.rows == [("4", "20.00 / 20.00", "—"), ("8", "—", "40.00 / 40.00")]
    assert rows.by_batch(make_run(make_target_result(True))) is None


def test_classes_and_confusion():
    found = make_accuracy(
        worst_classes=(
            ClassAccuracy(label=3, images=8, top1=5, top5=8),
            ClassAccuracy(label=1, images=8, top1=8, top5=8),
        ),
        most_confused=(Confusion(label=3, predicted=2, images=1300),),
        mean_class_top1=0.75,
        matrix=((8, 0), (1300, 5)),
    )
    worst, confused, matrix = rows.worst_classes("t", found), rows.confused("t", found), rows.matrix("t", found)

    assert worst is not None
    assert (worst.rows, worst.notes) == ([("3", "8", "62.50 %", "100.00 %")], ["Mean over classes: 75.00 %."])
    assert confused is not None
    assert confused.rows == [("3", "2", "1,300")]
    assert matrix is not None
    assert matrix.rows == [("0", "8", "·"), ("1", "1,300", "5")]
    named = [make(None, found, "c{}".format) for make in (rows.worst_classes, rows.confused, rows.matrix)]
    assert [table and (table.title.removeprefix("None: "), table.rows[0][0]) for table in named] == [
        ("Worst classes", "c3"),
        ("Most confused", "c3"),
        ("confusion", "c0"),
    ]
    chart = run_charts.confusion(found, "c")
    assert chart is not None
    assert chart.text.startswith("Matrix of 2 classes")
    of_many = make_accuracy()
    assert (rows.matrix("t", of_many), rows.confused("t", of_many), rows.worst_classes("t", of_many)) == (
        None,
        None,
        None,
    )
    assert run_charts.confusion(of_many, "c") is None


def test_charts_are_left_out_where_there_is_nothing_to_draw():
    bare = make_run(make_target_result(True).model_copy(update={"accuracy": None}))

    assert run_charts.accuracy(bare) is None
    assert run_charts.throughput(bare) is None
    assert run_charts.latency(bare) is None


def test_the_limiting_stage_is_marked_in_words_too():
    run = make_inference()
    chart = run_charts.timeline(run.stages, run.limiting_stage.name, "stages")

    assert chart.text.endswith("; decode limits it")
    places = json.loads(chart.json)["data"][0]["y"]
    assert places == ["<b>decode ◂ limits</b>", "infer"]


def test_names_in_charts_are_shown_and_not_obeyed():
    assert plain("<b>&") == "&lt;b&gt;&amp;"
    assert "<" not in script_json('{"a": "</script><!--"}')


def test_a_run_without_stages_time_is_drawn():
    still = make_inference().model_copy(update={"e2e": EndToEnd(throughput=0.0, wall_s=0.0)})
    stages = tuple(stage.model_copy(update={"wall_s": 0.0}) for stage in still.stages)

    assert run_charts.timeline(stages, "decode", "stages").height > 0


def test_gates_may_be_asked_for_failures_only():
    result = make_run(make_target_result(True).model_copy(update={"gate": make_gate(True, False), "paired": Paired(
        against="PyTorch", images=4, changed=0, lost=0, gained=0, p_value=1.0)}))  # fmt: skip

    assert [row[1] for row in rows.gates(result).rows] == ["check 0", "check 1"]
    assert [row[1] for row in rows.gates(result, failed=True).rows] == ["check 1"]


def test_a_run_with_nothing_to_hold_it_against_is_neither_passed_nor_failed():
    bare = make_target_result().model_copy(
        update={"accuracy": None, "parity": None, "paired": None, "gate": Gate(tolerance_points=1.0, checks=())}
    )
    page = render_html(make_run(bare).model_copy(update={"source_name": None, "source_accuracy": None, "commands": ()}))

    assert rows.outcome(make_run(bare)) == "no verdict"
    assert "<title>tiny: no verdict – modelport</title>" in page
    assert '<p class="verdict " role="status">' in page
    assert "NO VERDICT: nothing to hold the targets against" in page
    for absent in ("chart-accuracy", "chart-throughput", "chart-tradeoff", 'id="images"', 'id="inside"'):
        assert absent not in page.split("<body>")[1].split('id="plotly"')[0]


def test_targets_that_failed_are_named():
    assert rows.verdict(make_run(FAST, target(1, 1, passed=False), target(2, 1, passed=False, precision="int8"))) == (
        "FAILED: openvino-bf16, openvino-int8 did not pass their gates"
    )


def test_more_classes_than_a_matrix_holds_are_told_by_the_worst():
    worst = (ClassAccuracy(label=917, images=50, top1=3, top5=20),)
    many = make_accuracy(
        classes=1000, worst_classes=worst, most_confused=(Confusion(label=917, predicted=4, images=30),)
    )
    page = render_html(make_run(FAST.model_copy(update={"accuracy": many})))

    assert "chart-confusion" not in page
    assert "openvino-bf16: worst classes" in page
    assert "917" in page
