"""The measured peaks: that the chain of products is what it says, and is run in each precision."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from modelport.errors import EngineUnavailableError
from modelport.measure import peaks
from modelport.results import MachinePeaks
from modelport.spec import Precision


@pytest.fixture
def small(monkeypatch):
    """A chain of 3 products, 96 wide, of a batch of 2."""
    for name, value in {"_SIZE": (3, 8, 8), "_WIDTH": 96, "_ROWS": 2, "_PRODUCTS": 3, "_BATCH": 2}.items():
        monkeypatch.setattr(peaks, name, value)


@pytest.mark.parametrize("quantized", [False, True])
def test_the_chain_is_that_many_products_in_a_row(small, quantized):
    model = peaks.products(quantized=quantized)
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMul") == 3
    assert kinds.count("QuantizeLinear") == (3 if quantized else 0)


def test_the_chain_answers_the_product(small):
    model = peaks.products(quantized=False)
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    expected = image.reshape(-1, 96) @ weights["w0"] @ weights["w1"] @ weights["w2"]
    (found,) = ReferenceEvaluator(model).run(None, {"image": image})
    np.testing.assert_allclose(found, expected.reshape(2, -1), rtol=1e-4, atol=1e-4)


def test_each_precision_and_the_copy_are_measured(small, tmp_path):
    found = peaks.measure_peaks("onnxruntime", seconds=0.01)
    assert set(found.operations) == {Precision.F32, Precision.INT8}
    assert min(found.operations.values()) > 0
    assert found.bandwidth > 0
    found.write(tmp_path / "peaks.json")
    assert MachinePeaks.read(tmp_path / "peaks.json") == found


def test_a_precision_that_the_engine_lacks_is_left_out(small):
    found = peaks.measure_peaks("onnxruntime", precisions=(Precision.F32, Precision.BF16), seconds=0.01)
    assert list(found.operations) == [Precision.F32]


def test_an_engine_that_is_not_there_is_an_error():
    with pytest.raises(EngineUnavailableError, match="hailo"):
        peaks.measure_peaks("hailo")
