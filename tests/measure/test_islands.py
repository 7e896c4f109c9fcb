"""Data movement is found, grouped, measured and named, with the rewrite that applies: on engines, and on a device's profile."""

from __future__ import annotations

import logging

import msprof
import onnx
import pytest
from onnx import helper

from modelport.measure.islands import find_islands
from modelport.measure.profile import ProfileOptions, profile
from modelport.results import Operator, OperatorTensor

INPUT = "compile --input uint8"
KINDS = {
    "Conv": "convolution", "Group": "convolution", "Relu": "elementwise", "Add": "elementwise", "MaxPool": "pooling",
    "Gemm": "matmul",
}  # fmt: skip


def tensor(*shape, constant=False):
    return OperatorTensor(shape=shape, dtype="f32", layout="NCHW", constant=constant)


def operator(name, reads, kind=None, *, us=1.0, kernel=1, groups=1, reads_known=True):
    """An operator; its type is its name up to the first `_`."""
    kind = kind or name.partition("_")[0]
    weights = (tensor(32, 32 // groups, kernel, kernel, constant=True),) if kind in ("Conv", "Group") else ()
    return Operator(
        name=name, type=kind, kernel="k", precision="f32", inputs=(tensor(1, 32, 8, 8), *weights), outputs=(tensor(1, 32, 8, 8),),
        reads=tuple(reads) if reads_known else None, source=() if kind.startswith("Reorder") else (f"node_{name}",),
        source_types=() if kind.startswith("Reorder") else (kind,), kind=KINDS.get(kind, "movement"), start_us=0.0,
        durations_us=(us,), share=us / 100,
    )  # fmt: skip


def only(*operators, rewrite=INPUT):
    (island,) = find_islands(operators, rewrite)
    return island


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_split_and_the_join_of_a_cross_stage_block_are_found(csp_profile, engine):
    result = csp_profile(engine)
    found = {island.rewrite: island for island in result.islands if island.rewrite and "_" in island.rewrite}

    split, join = found["split_convolutions"], found["sum_concat_convolution"]
    assert split.source == ("Split_4",)
    assert split.pattern.startswith("Conv → LeakyRelu → Split → ")
    assert split.after == ("LeakyRelu_3",)
    assert "Conv_5" in split.before
    assert join.source == ("Concat_11",)
    assert join.pattern.endswith(" → Concat → Conv")
    assert join.before == ("Conv_12",)
    times = {operator.name: operator.duration_us for operator in result.operators}
    for island in result.islands:
        assert island.duration_us == pytest.approx(sum(times[name] for name in island.operators))
        assert island.recoverable_us == (island.duration_us if island.rewrite else 0.0)
    assert result.moving_us == pytest.approx(
        sum(each.duration_us for each in result.operators if each.kind == "movement")
    )
    assert sum(island.share for island in result.islands) <= 1


def test_reorders_around_a_split_belong_to_it():
    island = only(
        operator("Conv_0", []), operator("ReorderOutput_1", ["Conv_0"]), operator("Split_2", ["ReorderOutput_1"], us=3),
        operator("ReorderInput_3", ["Split_2"]), operator("Conv_4", ["ReorderInput_3"]),
    )  # fmt: skip

    assert island.operators == ("ReorderOutput_1", "Split_2", "ReorderInput_3")
    assert (island.duration_us, island.share) == (5.0, pytest.approx(0.05))
    assert island.rewrite == "split_convolutions"
    assert island.pattern == "Conv → Split → Conv"
    assert (island.after, island.before) == (("node_Conv_0",), ("node_Conv_4",))


def test_what_the_engine_added_stands_in_brackets():
    island = only(operator("Conv_0", []), operator("Reorder_1", ["Conv_0"]), operator("Add_2", ["Reorder_1"]))

    assert island.pattern == "Conv → [Reorder] → Add"


def test_a_join_is_not_grouped_with_the_split_that_it_reads_from():
    islands = find_islands(
        [operator("Conv_0", []), operator("Split_1", ["Conv_0"]), operator("Conv_2", ["Split_1"]),
         operator("Reorder_3", ["Conv_2"]), operator("Concat_4", ["Split_1", "Reorder_3"], us=9), operator("Conv_5", ["Concat_4"])],
        None,
    )  # fmt: skip

    assert [island.operators for island in islands] == [("Reorder_3", "Concat_4"), ("Split_1",)]
    assert [island.rewrite for island in islands] == ["sum_concat_convolution", "split_convolutions"]
    assert islands[0].pattern == "Split | Conv → Concat → Conv"


def test_an_activation_may_stand_between():
    assert only(
        operator("Conv_0", []), operator("Relu_1", ["Conv_0"]), operator("Slice_2", ["Relu_1"]), operator("Conv_3", ["Slice_2"])
    ).rewrite == "split_convolutions"  # fmt: skip
    assert only(
        operator("Conv_0", []), operator("Concat_1", ["Conv_0"]), operator("Relu_2", ["Concat_1"]), operator("Conv_3", ["Relu_2"])
    ).rewrite == "sum_concat_convolution"  # fmt: skip


@pytest.mark.parametrize(
    ("operators", "rewrite", "reason"),
    [
        (
            [operator("MaxPool_0", []), operator("Split_1", ["MaxPool_0"]), operator("Conv_2", ["Split_1"])],
            None, "the result of MaxPool is split, and only a convolution's can be made in parts",
        ),
        (
            [operator("Conv_0", []), operator("Concat_1", ["Conv_0"]), operator("Conv_2", ["Concat_1"], kernel=3)],
            None, "a 3x3 convolution follows, and only a 1x1 one is taken apart",
        ),
        (
            [operator("Conv_0", []), operator("Concat_1", ["Conv_0"]), operator("MaxPool_2", ["Concat_1"])],
            None, "what is joined goes to MaxPool, and only a 1x1 convolution can take its parts apart",
        ),
        (
            [operator("Conv_0", []), operator("Concat_1", ["Conv_0"])],
            None, "what is joined goes to the output, and only a 1x1 convolution can take its parts apart",
        ),
        (
            [operator("Reorder_0", []), operator("Conv_1", ["Reorder_0"])],
            INPUT, "the input then arrives as bytes, and fewer of them are moved",
        ),
        (
            [operator("Gemm_0", []), operator("Cast_1", ["Gemm_0"])],
            None, "the model's output has to be brought into its form",
        ),
        (
            [operator("Conv_0", []), operator("Transpose_1", ["Conv_0"]), operator("Transpose_2", ["Transpose_1"]),
             operator("Conv_3", ["Transpose_2"])],
            "simplify", "neighbours that undo or repeat one another can be one, or none",
        ),
        (
            [operator("Conv_0", []), operator("Reshape_1", ["Conv_0"]), operator("Gemm_2", ["Reshape_1"])],
            None, "the kernels of Conv and Gemm want different layouts or types",
        ),
        (
            [operator("Conv_0", []), operator("Reorder_1", ["Conv_0"]), operator("Group_2", ["Reorder_1"], "Conv", groups=8)],
            "merge_groups", "Conv in 8 groups has a layout of its own; in larger ones it may have its neighbours'",
        ),
        (  # depthwise: it has kernels of its own
            [operator("Conv_0", []), operator("Reorder_1", ["Conv_0"]), operator("Group_2", ["Reorder_1"], "Conv", groups=32)],
            None, "the kernels of Conv want different layouts or types",
        ),
        (
            [operator("Conv_0", []), operator("DequantizeLinear_1", ["Conv_0"]), operator("Add_2", ["DequantizeLinear_1"])],
            None, "int8 meets Conv that stayed in float",
        ),
        (
            [operator("Conv_0", []), operator("Concat_1", ["Conv_0"]), operator("Transpose_2", ["Concat_1"]),
             operator("Split_3", ["Transpose_2"]), operator("Conv_4", ["Split_3"])],
            None, "it joins and splits anew; no rewrite is known for a shuffle of channels",
        ),
    ],
)  # fmt: skip
def test_each_has_its_rewrite_or_the_reason_why_there_is_none(operators, rewrite, reason):
    island = only(*operators)

    assert (island.rewrite, island.reason) == (rewrite, reason)


def test_pixels_at_the_input_have_no_rewrite():
    island = only(operator("Transpose_0", []), operator("Conv_1", ["Transpose_0"]), rewrite=None)

    assert (island.rewrite, island.pattern) == (None, "input → Transpose → Conv")
    assert island.reason == "pixels have to be brought into the network's layout, and are bytes already"


def test_what_takes_no_time_is_no_island():
    assert find_islands([operator("Conv_0", []), operator("Reshape_1", ["Conv_0"], us=0)], None) == ()
    assert find_islands([], None) == ()


def test_without_a_dataflow_neighbours_in_time_are_one_island():
    island = only(
        *(operator(name, (), reads_known=False)
          for name in ("Conv_0", "TransData_1", "StridedSliceD_2", "TransData_3", "Conv_4"))
    )  # fmt: skip

    assert island.operators == ("TransData_1", "StridedSliceD_2", "TransData_3")
    assert island.rewrite == "split_convolutions"


# -- the guide's chapter 7


@pytest.fixture
def chapter_7(tmp_path):
    msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows(), msprof.GUIDE)
    (tmp_path / "op_statistic_0_1.csv").write_text(
        "Model Name,OP Type,Total Time(us)\ncspresnext_bs32,TransData,6750\n"
    )
    return tmp_path


def test_transdata_around_stridedsliced_is_named(chapter_7, caplog):
    with caplog.at_level(logging.WARNING):
        result = profile(chapter_7)

    assert caplog.text == ""  # op_statistic agrees
    worst = result.islands[0]
    assert worst.types == ("TransData", "StridedSliceD", "TransData", "StridedSliceD", "TransData")
    assert worst.duration_us == 2100 + 1300 + 1900 + 1250 + 1850
    assert worst.share == pytest.approx(8400 / 16455)
    assert worst.rewrite == "split_convolutions"
    assert worst.pattern == "Conv2D → TransData → StridedSliceD → Conv2D"
    assert (worst.after, worst.before) == (("Conv_3",), ("Conv_6LeakyRelu_7",))
    join = next(island for island in result.islands if island.types == ("ConcatD",))
    assert join.rewrite == "sum_concat_convolution"
    assert "if it is 1x1, which this profile does not say" in join.reason
    first = next(island for island in result.islands if island.operators == ("trans_TransData_0",))
    assert first.rewrite == "compile --aipp"
    assert result.islands[-1].operators == ("trans_Cast_16",)


def test_the_csv_says_what_ran(chapter_7):
    result = profile(chapter_7)

    assert (result.engine, result.origin, result.executed_precision, result.batch_size) == (
        "ascend",
        "msprof",
        "fp16",
        32,
    )
    assert (result.rounds, result.devices, result.peaks, result.environment) == (1, (0,), None, None)
    assert result.operators_us == pytest.approx(16455)
    assert result.latency_us == pytest.approx(16479)
    assert result.overhead_us == pytest.approx(24)
    assert [(each.type, each.count) for each in result.types[:2]] == [("TransData", 4), ("Conv2D", 5)]
    gemm = next(each for each in result.operators if each.type == "MatMulV2")
    assert gemm.flops == 2 * 32 * 1008 * 256  # 1,000 classes in blocks of 16


def test_nodes_of_the_onnx_file_are_named(chapter_7, tmp_path):
    kinds = [name for part in (row[0] for row in msprof.OPERATORS) for name in part.replace("Leaky", " Leaky").split()]
    nodes = [
        helper.make_node(name.partition("_")[0], ["x"], [name], name=name)
        for name in kinds
        if not name.startswith("trans_")
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    onnx.save(helper.make_model(graph), tmp_path / "cspresnext.onnx")

    worst = profile(chapter_7, options=ProfileOptions(onnx=tmp_path / "cspresnext.onnx")).islands[0]

    assert worst.pattern == "Conv → Slice → Conv"
    assert set(worst.source) == {"Slice_4", "Slice_5"}
    assert (worst.after, worst.before) == (("Conv_3",), ("Conv_6",))


def test_statistics_of_another_run_are_said(chapter_7, caplog):
    (chapter_7 / "op_statistic_0_1.csv").write_text("Model Name,OP Type,Total Time(us)\nm,TransData,9999\n")

    with caplog.at_level(logging.WARNING):
        profile(chapter_7)
    assert "op_statistic states 9999.0 us of TransData, the operators in op_summary add up to 6750.0 us" in caplog.text
