"""What onnxscript's optimiser is asked for: it does it, and leaves the batch dynamic."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'modelport[optimize]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from onnxscript import optimizer
from rewriting import build, kinds, refusal, rewrite, weights

from modelport.graph.passes.simplify import Simplify

SIMPLIFY = Simplify()


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_identities_dropout_and_constant_arithmetic_go(opset):
    nodes = [
        ("Identity", ["kernel"], ["same"], {}),
        ("Conv", ["image", "same"], ["c"], {}),
        ("Dropout", ["c"], ["d"], {}),
        ("Identity", ["d"], ["i"], {}),
        ("Add", ["one", "one"], ["two"], {}),
        ("Mul", ["i", "two"], ["out"], {}),
    ]

    found = rewrite(SIMPLIFY, build(nodes, {"kernel": weights(4, 3, 1, 1), "one": np.float32(1)}, opset=opset))

    assert kinds(found.model) == {"Conv": 1, "Mul": 1}
    assert found.sites == 4


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_a_shape_that_is_computed_becomes_constant_but_for_the_batch(opset):
    nodes = [
        ("Shape", ["image"], ["shape"], {}),
        ("Gather", ["shape", "zero"], ["n"], {"axis": 0}),
        ("Concat", ["n", "rest"], ["target"], {"axis": 0}),
        ("Reshape", ["image", "target"], ["out"], {}),
    ]
    constants = {"zero": np.array([0]), "rest": np.array([3, 63])}

    model = build(nodes, constants, rank=3, opset=opset)
    for dim, size in zip(model.graph.output[0].type.tensor_type.shape.dim[1:], (3, 63), strict=True):
        dim.dim_value = size  # onnx itself follows computed shapes from opset 14 on

    found = rewrite(SIMPLIFY, model)

    assert kinds(found.model) == {"Reshape": 1}
    assert found.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_dropout_that_trains_stays():
    nodes = [("Identity", ["image"], ["i"], {}), ("Dropout", ["i", "", "yes"], ["out"], {})]
    model = build(nodes, {"yes": np.array(True)})

    assert kinds(SIMPLIFY.apply(model).model) == {"Dropout": 1}


def test_nothing_to_do():
    reason = refusal(SIMPLIFY, build([("Relu", ["image"], ["out"], {})], {}))

    assert reason == "there is no identity, no constant arithmetic and no known pattern"


def test_the_optimisers_own_failure_is_told(monkeypatch):
    def fail(model: object) -> None:
        raise RuntimeError("shapes\nof sorts")

    monkeypatch.setattr(optimizer, "optimize_ir", fail)

    reason = refusal(SIMPLIFY, build([("Relu", ["image"], ["out"], {})], {}))

    assert reason == "onnxscript's optimiser fails on this graph: RuntimeError: shapes"
