"""`diff` on a small network with branches: planted faults are named, wherever they are, in few runs."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import csp
import faults
import models
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from modelport.comparison.compare import CSV_FILE, DIFF_FILE, DiffOptions, diff
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.graph import read_classifier
from modelport.graph.classifier import SPEC_KEY
from modelport.graph.fp16 import emulate_fp16
from modelport.results import DiffResult
from modelport.results.diff import EXACT_MARKS, MSIT_MARKS, PLAIN_MARKS
from modelport.spec import Precision

FEW = DiffOptions(limit=4)


@pytest.fixture(autouse=True)
def _needs_onnx_runtime(require_engine) -> None:
    require_engine("onnxruntime")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, each of another brightness."""
    folder, rng = tmp_path_factory.mktemp("diff") / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for number in range(6):
        low, high = sorted(rng.integers(0, 256, 2))
        pixels = rng.integers(low, high + 1, (40, 36, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def most_runs(result: DiffResult) -> int:
    """What a search by bisection may take: the scores, the cuts, the operator itself, its inputs, its inner tensors."""
    return math.ceil(math.log2(result.matched.compared)) + 6


@pytest.mark.parametrize("operator", ["Conv_0", "Conv_7", "Conv_9", "Conv_12"])
def test_a_changed_weight_is_found(csp_onnx: Path, tmp_path: Path, operator: str) -> None:
    other = faults.change_weight(csp_onnx, tmp_path / "other.onnx", operator, 1.02)
    result = diff(csp_onnx, other, options=FEW)
    assert result.culprit is not None
    assert (result.culprit.kind, result.culprit.layer.operator) == ("own", operator)
    assert re.match(r"[\d,]+ of [\d,]+ values of the weight differ, by up to 0\.0", result.culprit.differs[0])
    assert max(result.runs.a, result.runs.b) <= most_runs(result)


@pytest.mark.parametrize("operator", ["LeakyRelu_1", "LeakyRelu_6", "LeakyRelu_13"])
def test_a_changed_slope_is_found(csp_onnx: Path, tmp_path: Path, operator: str) -> None:
    other = faults.change_slope(csp_onnx, tmp_path / "other.onnx", operator, 0.02)
    result = diff(csp_onnx, other, options=FEW)
    assert result.culprit is not None
    assert (result.culprit.kind, result.culprit.layer.operator) == ("own", operator)
    assert result.culprit.differs == ("alpha is 0.01 in A and 0.02 in B",)
    assert result.culprit.inherited is not None
    assert result.culprit.inherited.relative_distance < result.marks.relative_distance


def test_of_two_faults_the_first_is_found(csp_onnx: Path, tmp_path: Path) -> None:
    other = faults.change_slope(csp_onnx, tmp_path / "one.onnx", "LeakyRelu_13", 0.5)
    other = faults.change_weight(other, tmp_path / "two.onnx", "Conv_5", 1.1)
    culprit = diff(csp_onnx, other, options=FEW).culprit
    assert culprit is not None
    assert culprit.layer.operator == "Conv_5"


def test_a_fault_that_the_scores_do_not_show_is_found_all_the_same(csp_onnx: Path, tmp_path: Path) -> None:
    silent = onnx.load(csp_onnx)  # a branch whose result hardly counts
    faults.scale(silent, faults.find(silent, "Conv_9").input[1], np.s_[:], 1e-6)
    first, second = tmp_path / "silent.onnx", tmp_path / "other.onnx"
    onnx.save(silent, first)
    result = diff(first, faults.change_slope(first, second, "LeakyRelu_6", 0.5), options=FEW)
    assert result.recovers
    assert result.culprit is not None
    assert result.culprit.layer.operator == "LeakyRelu_6"
    assert result.scores.relative_distance < PLAIN_MARKS.relative_distance


def test_the_same_file_twice_has_no_error_at_all(csp_onnx: Path, pictures: Path) -> None:
    result = diff(csp_onnx, csp_onnx, pictures, options=DiffOptions(limit=6))
    assert result.culprit is None
    assert result.marks == PLAIN_MARKS
    assert result.scores.max_abs_error == 0
    assert (result.images, result.source) == (4, str(pictures))  # whole batches of 4


def test_every_layer_with_its_own_error(csp_onnx: Path, tmp_path: Path) -> None:
    other = faults.change_slope(csp_onnx, tmp_path / "other.onnx", "LeakyRelu_3", 0.3)
    result = diff(csp_onnx, other, output=tmp_path / "out", options=DiffOptions(limit=4, whole=True, max_taps=3))
    assert [layer.tensor for layer in result.layers] == [
        *("conv_0", "leakyrelu_1", "conv_2", "leakyrelu_3", "left", "right", "conv_5", "leakyrelu_6", "conv_7"),
        *("leakyrelu_8", "conv_9", "add_10", "concat_11", "conv_12", "leakyrelu_13", "globalaveragepool_14"),
        *("flatten_15", "gemm_16"),
    ]
    off = {layer.operator for layer in result.layers if layer.error.relative_distance > 1e-3}
    assert off == set(csp.NODES[3:])
    assert [layer.operator for layer in result.layers if layer.own.relative_distance > 1e-6] == ["LeakyRelu_3"]
    assert result.worst.operator == "LeakyRelu_3"
    assert DiffResult.read(tmp_path / "out" / DIFF_FILE) == result
    with open(tmp_path / "out" / CSV_FILE, newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header[:10] == [
        *("OpType", "node", "dtype", "shape", "CosineSimilarity", "MaxAbsoluteError", "RelativeEuclideanDistance"),
        *("KullbackLeiblerDivergence", "RootMeanSquareError", "MeanRelativeError"),
    ]
    assert rows[3][:4] == ["LeakyRelu", "LeakyRelu_3", "float32", "4x64x32x32"]
    assert float(rows[3][6]) == pytest.approx(result.layers[3].error.relative_distance, rel=1e-5)
    assert rows[2][-1] == ""
    assert rows[3][-1] == "relative_distance"


def test_few_taps_give_the_same_figures_in_more_runs(csp_onnx: Path, tmp_path: Path) -> None:
    other = faults.change_slope(csp_onnx, tmp_path / "other.onnx", "LeakyRelu_8", 0.3)
    one, two = (diff(csp_onnx, other, options=DiffOptions(limit=1, whole=True, max_taps=taps)) for taps in (2, 20))
    assert one.runs.b > two.runs.b
    assert [layer.error for layer in one.layers] == [layer.error for layer in two.layers]
    lacking = [layer.operator for layer in one.layers if layer.own is None]
    assert lacking == ["Add_10", "Concat_11"]  # two inputs and the result are more than two taps
    assert all(layer.own is not None for layer in two.layers)


@pytest.mark.parametrize("engine", ["openvino:f32", "onnxruntime:f32"])
def test_an_engine_in_float32_agrees_within_the_tight_mark(csp_onnx: Path, require_engine, engine: str) -> None:
    require_engine(engine.partition(":")[0])
    result = diff(csp_onnx, engine, options=FEW)
    assert result.culprit is None
    assert result.marks == EXACT_MARKS
    assert result.matched.compared < result.matched.common  # what an engine fuses is not looked into
    assert {"Conv → LeakyRelu", "Conv → Add"} & {layer.op_type for layer in result.layers}


@pytest.mark.parametrize("operator", ["LeakyRelu_8", "Conv_12"])
def test_a_fault_inside_a_fusion_is_found_in_an_offline_model(
    csp_onnx: Path, pictures: Path, require_engine, tmp_path: Path, operator: str
) -> None:
    """The model runs in bf16 where this processor has it; the fault is in the file that it was compiled from."""
    require_engine("openvino")
    if operator.startswith("Conv"):
        faulty = faults.change_weight(csp_onnx, tmp_path / "faulty.onnx", operator, 8.0)
    else:
        faulty = faults.change_slope(csp_onnx, tmp_path / "faulty.onnx", operator, 0.9)
    precision = _bf16_or_f32()
    options = CompileOptions(precision=precision, batch_size=3)
    model = compile_model(faulty, tmp_path / "model", engine="openvino", options=options)
    result = diff(csp_onnx, model.path, pictures, options=DiffOptions(limit=6))
    assert result.b.onnx == str(faulty)  # found beside the model
    assert (result.b.precision, result.images) == (precision, 6)
    assert result.culprit is not None
    assert (result.culprit.kind, result.culprit.layer.operator) == ("own", operator)
    assert len(result.culprit.differs) == 1
    assert result.tapping is not None
    assert result.tapping.relative_distance < 0.02


def _bf16_or_f32() -> Precision:
    import openvino

    has = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return Precision.BF16 if has else Precision.F32


def test_two_engines_and_uint8_pixels(csp_onnx: Path, pictures: Path, require_engine, tmp_path: Path) -> None:
    require_engine("openvino")
    options = CompileOptions(batch_size=2, input_dtype="uint8")
    model = compile_model(csp_onnx, tmp_path / "uint8", engine="openvino", options=options)
    result = diff("onnxruntime:f32", model.path, pictures, options=DiffOptions(limit=4, onnx=(csp_onnx,)))
    assert (result.a.engine, result.b.engine) == ("onnxruntime", "openvino")
    assert result.culprit is None
    assert result.scores.relative_distance < EXACT_MARKS.relative_distance


def test_rounding_to_fp16_passes_where_it_should_and_is_told_where_it_overflows(csp_onnx: Path, tmp_path: Path) -> None:
    fine = diff(csp_onnx, "emulation:fp16", options=FEW)
    assert fine.culprit is None
    assert fine.marks == MSIT_MARKS
    assert 0 < fine.scores.relative_distance < 1e-2
    large = onnx.load(csp_onnx)
    faults.scale(large, faults.find(large, "Conv_7").input[1], np.s_[:], 1e5)
    onnx.save(large, tmp_path / "large.onnx")
    result = diff(tmp_path / "large.onnx", "emulation:fp16", options=FEW)
    assert result.culprit is not None
    assert result.culprit.layer.operator == "Conv_7"
    assert result.culprit.layer.error.non_finite_b > 0
    assert result.culprit.layer.error.non_finite_differ == result.culprit.layer.error.non_finite_b


def test_an_emulated_file_is_an_onnx_file_like_any_other(csp_onnx: Path, tmp_path: Path) -> None:
    rounded = emulate_fp16(read_classifier(csp_onnx), tmp_path / "rounded.onnx").path
    assert diff(csp_onnx, rounded, options=FEW).scores == diff(csp_onnx, "emulation:fp16", options=FEW).scores


def test_a_rewritten_graph_is_matched_by_what_survives(csp_onnx: Path, tmp_path: Path) -> None:
    """The convolution before Split_4 in two, one for each half: conv_2, leakyrelu_3 and the Split are gone."""
    model = onnx.load(csp_onnx)
    conv, slope, split = (faults.find(model, name) for name in ("Conv_2", "LeakyRelu_3", "Split_4"))
    place = list(model.graph.node).index(conv)
    nodes = []
    for half, (name, part) in enumerate((("left", np.s_[:32]), ("right", np.s_[32:]))):
        for suffix, source in (("w", conv.input[1]), ("b", conv.input[2])):
            tensor = next(tensor for tensor in model.graph.initializer if tensor.name == source)
            values = numpy_helper.to_array(tensor)[part]
            model.graph.initializer.append(numpy_helper.from_array(values, f"half_{half}_{suffix}"))
        reads = [conv.input[0], f"half_{half}_w", f"half_{half}_b"]
        nodes.append(onnx.helper.make_node("Conv", reads, [f"before_{name}"], name=f"Conv_{name}"))
        nodes.append(onnx.helper.make_node("LeakyRelu", [f"before_{name}"], [name], name=f"Slope_{name}", alpha=0.01))
    for node in (conv, slope, split):
        model.graph.node.remove(node)
    for offset, node in enumerate(nodes):
        model.graph.node.insert(place + offset, node)
    onnx.save(model, tmp_path / "split.onnx")
    result = diff(csp_onnx, tmp_path / "split.onnx", options=DiffOptions(limit=4, whole=True))
    assert result.culprit is None
    assert result.matched.common == 16
    halves = [layer for layer in result.layers if layer.tensor in ("left", "right")]
    assert {layer.op_type for layer in halves} == {"Conv → LeakyRelu → Split"}
    assert all(layer.own.relative_distance < PLAIN_MARKS.relative_distance for layer in halves)
    faults.change_slope(tmp_path / "split.onnx", tmp_path / "faulty.onnx", "Slope_right", 0.1)
    culprit = diff(csp_onnx, tmp_path / "faulty.onnx", options=FEW).culprit
    assert culprit is not None
    assert (culprit.layer.tensor, culprit.layer.operators) == ("right", ("Conv_2", "LeakyRelu_3", "Split_4"))


def chain(target: Path, noise: float, depth: int = 16) -> Path:
    """A chain of convolutions that keep lengths (orthogonal 1x1), each weight a little off: no operator is to blame alone."""
    exact, rng = np.random.default_rng(0), np.random.default_rng(1)
    nodes, weights, source = [], [], "image"
    for number in range(depth):
        weight, _ = np.linalg.qr(exact.standard_normal((32, 32)))
        weight = weight[:, :3] if number == 0 else weight
        rough = weight * (1 + noise * rng.standard_normal(weight.shape))
        weights.append(numpy_helper.from_array(rough.astype(np.float32)[..., None, None], f"w{number}"))
        nodes.append(onnx.helper.make_node("Conv", [source, f"w{number}"], [f"t{number}"], name=f"Conv_{number}"))
        source = f"t{number}"
    nodes += [
        onnx.helper.make_node("GlobalAveragePool", [source], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["scores"], axis=1),
    ]
    spec = csp.SPEC.model_copy(update={"num_classes": 32})
    ends = models.tensor("image", ["N", *csp.SIZE]), models.tensor("scores", ["N", 32])
    graph = onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key=SPEC_KEY, value=spec.model_dump_json())
    return models.save(model, target)


def test_errors_that_only_add_up_are_no_single_operators(tmp_path: Path) -> None:
    exact, rough = chain(tmp_path / "exact.onnx", 0.0), chain(tmp_path / "rough.onnx", 0.02)
    culprit = diff(exact, "emulation:fp16", options=DiffOptions(limit=2, onnx=(rough,))).culprit
    assert culprit is not None
    assert culprit.kind == "accumulated"
    assert culprit.layer.own is not None
    assert MSIT_MARKS.severity(culprit.layer.own) < 0.6
    assert culprit.inherited is not None
    assert MSIT_MARKS.severity(culprit.inherited) < 1 <= MSIT_MARKS.severity(culprit.layer.error)
    assert culprit.differs == ()


def test_a_fault_beyond_small_errors_that_add_up_is_found(tmp_path: Path) -> None:
    exact, rough = chain(tmp_path / "exact.onnx", 0.0), chain(tmp_path / "rough.onnx", 0.02)
    faulty = faults.change_weight(rough, tmp_path / "faulty.onnx", "Conv_13", -1.0)
    result = diff(exact, "emulation:fp16", options=DiffOptions(limit=2, onnx=(faulty,)))
    culprit = result.culprit
    assert culprit is not None
    assert (culprit.kind, culprit.layer.operator) == ("own", "Conv_13")
    assert culprit.level > 1
    assert culprit.crossed_at in {f"Conv_{number}" for number in range(2, 13)}
    assert max(result.runs.a, result.runs.b) <= 2 * most_runs(result)


def test_a_lone_image_fills_a_batch(csp_onnx: Path, pictures: Path, csp_model, tmp_path: Path) -> None:
    model = csp_model("onnxruntime")  # batch 2
    result = diff(csp_onnx, model.path, pictures / "3.png", options=DiffOptions(onnx=(csp_onnx,)))
    assert result.images == 1
    assert result.culprit is None
