"""`diff` on the trained CSPResNeXt50: planted faults in the file, in an engine and in int8, and PyTorch against its export."""

from __future__ import annotations

from pathlib import Path

import faults
import onnx
import pytest
from places import ROOT

from modelport.comparison.compare import DiffOptions, diff
from modelport.errors import FormatError
from modelport.exporter import ExportOptions
from modelport.quantize import QuantizeOptions, quantize

DIGITS = ROOT / ".demo" / "digits"
IMAGES = DIGITS / "val"
FEW = DiffOptions(limit=2)
ARCH = DiffOptions(limit=2, export=ExportOptions(arch="cspresnext50"))


@pytest.fixture(autouse=True)
def _needs_onnx_runtime(require_engine) -> None:
    require_engine("onnxruntime")


@pytest.fixture(scope="module")
def exported(demo_directory: Path) -> Path:
    """The demo's network by torch's dynamo exporter, opset 18."""
    return demo_directory / "model.onnx"


def operator(path: Path, kind: str, place: int) -> str:
    """Name of one of the file's operators of a kind."""
    return [node.name for node in onnx.load(path, load_external_data=False).graph.node if node.op_type == kind][place]


def test_a_changed_weight_is_named(exported: Path, tmp_path: Path) -> None:
    conv = operator(exported, "Conv", 20)  # in a branch
    other = faults.change_weight(exported, tmp_path / "other.onnx", conv, 1.5)
    result = diff(exported, other, IMAGES, options=FEW)
    assert result.culprit is not None
    assert (result.culprit.kind, result.culprit.layer.operator) == ("own", conv)
    assert result.matched.compared == 135  # every result that depends on the image
    assert result.runs.b <= 14


def test_a_changed_slope_is_named_in_an_engine(exported: Path, require_engine, tmp_path: Path) -> None:
    require_engine("openvino")
    slope = operator(exported, "LeakyRelu", 33)  # after a residual sum
    other = faults.change_slope(exported, tmp_path / "other.onnx", slope, 0.5)
    result = diff(exported, "openvino:f32", IMAGES, options=DiffOptions(limit=2, onnx=(other,)))
    assert result.culprit is not None
    assert (result.culprit.kind, result.culprit.layer.operator) == ("own", slope)
    assert result.culprit.differs == ("alpha is 0.01 in A and 0.5 in B",)


@pytest.fixture(scope="module")
def quantised(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It in int8, by ONNX Runtime's quantiser."""
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    quantize(exported, DIGITS / "train", path, options=QuantizeOptions(tool="onnxruntime", samples=20))
    return path


def test_a_changed_weight_is_named_in_int8(quantised: Path, tmp_path: Path) -> None:
    """The scale of one convolution's int8 weight is twice what it is in A, which is int8 too: what int8 costs is no fault."""
    model = onnx.load(quantised)
    trunk = operator(quantised, "Conv", 25)
    weight = faults.find(model, trunk).input[1]
    dequantize = next(node for node in model.graph.node if node.output[0] == weight)
    faults.scale(model, dequantize.input[1], slice(None), 2.0)
    onnx.save(model, tmp_path / "faulty.onnx")
    options = DiffOptions(limit=2, onnx=(tmp_path / "faulty.onnx",))
    result = diff(quantised, "onnxruntime:int8", IMAGES, options=options)
    assert result.culprit is not None
    assert (result.culprit.kind, result.culprit.layer.operator) == ("own", trunk)
    assert result.culprit.keep_float[0] == trunk


def test_pytorch_agrees_with_its_export(exported: Path, checkpoint: Path) -> None:
    result = diff(checkpoint, exported, IMAGES, options=ARCH)
    assert result.a.kind == "checkpoint"
    assert result.matched.a == 131  # every operator's result but what has no name in PyTorch
    assert result.culprit is None
    assert result.exact


def test_a_fault_in_an_export_is_found_against_pytorch(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    """The checkpoint is the reference wherever it stands."""
    conv = operator(exported, "Conv", 25)
    other = faults.change_weight(exported, tmp_path / "other.onnx", conv, 1.1)
    result = diff(other, checkpoint, IMAGES, options=ARCH)
    assert result.a.kind == "checkpoint"
    assert result.culprit is not None
    assert (result.culprit.kind, result.culprit.layer.operator) == ("own", conv)


def test_a_checkpoint_is_not_held_against_a_quantised_file(quantised: Path, checkpoint: Path) -> None:
    with pytest.raises(FormatError, match="is quantised, and its weights are no longer the checkpoint's"):
        diff(checkpoint, quantised, IMAGES, options=ARCH)
