"""ONNX Runtime: no bf16, one optimised graph that is not optimised again, and being told where it is not installed."""

from __future__ import annotations

import subprocess
import sys

import onnx
import pytest

from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.errors import CompileError
from modelport.spec import Precision


def test_bf16_is_refused_with_what_is_offered(tiny_onnx, tmp_path):
    with pytest.raises(CompileError, match="ONNX Runtime does not offer bf16 here; it offers f32"):
        compile_model(
            tiny_onnx, tmp_path / "out", engine="onnxruntime", options=CompileOptions(precision=Precision.BF16)
        )
    assert not (tmp_path / "out").exists()


def test_the_offline_model_is_the_optimised_graph_of_fixed_shape(compiled, tiny_onnx):
    model = compiled("onnxruntime", 4)
    graph = onnx.load(model.file("model.onnx")).graph

    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [4, 3, 16, 12]
    assert "Relu" in [node.op_type for node in onnx.load(tiny_onnx).graph.node]
    assert "Relu" not in [node.op_type for node in graph.node]  # it was fused into the convolution
    assert list(model.manifest.files) == ["model.onnx", "source.onnx"]


def test_a_missing_runtime_names_what_to_install(tiny_onnx, tmp_path):
    code = (
        "import sys; sys.modules['onnxruntime'] = None; import modelport\n"
        "try: modelport.compile(sys.argv[1], sys.argv[2], engine='onnxruntime')\n"
        "except modelport.EngineUnavailableError as error: print(error)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(tiny_onnx), str(tmp_path / "out")], capture_output=True, text=True
    )

    assert child.stdout == "ONNX Runtime (onnxruntime) is not installed: pip install 'modelport[onnxruntime]'\n"
    assert child.stderr == ""
