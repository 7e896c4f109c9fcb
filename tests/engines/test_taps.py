"""Tapped graphs: every engine that shows its tensors shows the same ones, by name."""

from __future__ import annotations

from pathlib import Path

import csp
import numpy as np
import onnx
import pytest

from modelport.engines import load
from modelport.errors import CompileError, EngineUnavailableError
from modelport.spec import Precision

NAMES = ["leakyrelu_3", "right", "add_10"]


@pytest.fixture
def tapped(csp_onnx: Path, tmp_path: Path) -> Path:
    model = onnx.load(csp_onnx)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    for name in NAMES:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    # A name for what is already there: an engine may drop the operator, and both names must stay.
    model.graph.node.append(onnx.helper.make_node("Identity", ["add_10"], ["again"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("again", onnx.TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "tapped.onnx")
    return tmp_path / "tapped.onnx"


def test_engines_show_the_same_tensors(tapped: Path, require_engine) -> None:
    require_engine("onnxruntime")
    require_engine("openvino")
    image = np.random.default_rng(0).standard_normal((2, *csp.SIZE), dtype=np.float32)
    plain = load("onnxruntime").tap(tapped, Precision.F32, plain=True)({"image": image})
    assert list(plain) == ["gemm_16", *NAMES, "again"]
    assert plain["right"].shape == (2, 32, 32, 32)
    for engine in ("onnxruntime", "openvino"):
        found = load(engine).tap(tapped, Precision.F32)({"image": image})
        assert list(found) == list(plain)
        for name, expected in plain.items():
            assert np.abs(found[name] - expected).max() <= 1e-4 * np.abs(expected).max(), (engine, name)
        assert np.array_equal(found["again"], found["add_10"])


def test_a_second_run_does_not_change_the_first_ones_tensors(tapped: Path, require_engine) -> None:
    require_engine("openvino")
    run = load("openvino").tap(tapped, Precision.F32)
    first = run({"image": np.ones((2, *csp.SIZE), np.float32)})
    kept = first["right"].copy()
    run({"image": np.zeros((2, *csp.SIZE), np.float32)})
    assert np.array_equal(first["right"], kept)


def test_an_engine_without_taps_says_so() -> None:
    with pytest.raises(EngineUnavailableError, match="null engine cannot show intermediate tensors"):
        load("null").tap(Path("any.onnx"), Precision.F32)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_what_cannot_be_tapped_is_a_compile_error(tmp_path: Path, require_engine, engine: str) -> None:
    require_engine(engine)
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(CompileError, match=r"cannot compile bad\.onnx with tapped tensors: \S+"):
        load(engine).tap(tmp_path / "bad.onnx", Precision.F32)
    with pytest.raises(CompileError, match="does not offer fp16 here"):
        load(engine).tap(tmp_path / "bad.onnx", Precision.FP16)


def test_openvino_has_no_plain_execution(tapped: Path, require_engine) -> None:
    require_engine("openvino")
    with pytest.raises(CompileError, match="OpenVINO has no plain execution"):
        load("openvino").tap(tapped, Precision.F32, plain=True)
