"""PyTorch behind a session's interface answers what the network itself answers."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.errors import InferenceError
from modelport.spec import ModelSpec, Precision, Preprocess

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'modelport[export]'")
pytest.importorskip("timm", reason="timm is not installed: pip install 'modelport[export]'")

from modelport.exporter.checkpoint import build_network  # noqa: E402
from modelport.exporter.reference import TorchSession  # noqa: E402

SPEC = ModelSpec(arch="test_resnet", num_classes=10, preprocess=Preprocess(input_size=(3, 32, 40)))


@pytest.fixture(scope="module")
def network():
    """A tiny network of fixed random weights."""
    torch.manual_seed(3)
    return build_network(SPEC.arch, SPEC.num_classes, None)


@pytest.fixture
def batch() -> np.ndarray:
    """Four images."""
    return np.random.default_rng(4).standard_normal((4, 3, 32, 40), dtype=np.float32)


@pytest.mark.parametrize("layout", ["plain", "read-only", "broadcast", "reversed"])
def test_scores_are_the_networks_own(network, batch, layout):
    if layout == "read-only":
        batch.flags.writeable = False
    elif layout == "broadcast":
        batch = np.broadcast_to(batch[:1], batch.shape)
    elif layout == "reversed":
        batch = batch[::-1, ::-1]
    with torch.no_grad():
        expected = network(torch.tensor(batch.copy())).numpy()

    with TorchSession(network, SPEC, 4) as session:
        scores = session.infer(batch)

    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, expected)


def test_scores_belong_to_the_caller(network, batch):
    with TorchSession(network, SPEC, 4) as session:
        first = session.infer(batch)
        kept = first.copy()
        session.infer(-batch)[:] = 0

    np.testing.assert_array_equal(first, kept)


def test_it_is_described_as_pytorch_in_f32(network):
    session = TorchSession(network, SPEC, 4)

    assert (session.batch_size, session.slots) == (4, 1)
    assert session.input.shape == (4, 3, 32, 40)
    assert session.output.shape == (4, 10)
    assert (session.target.engine, session.target.engine_version) == ("pytorch", torch.__version__)
    assert session.target.precision is session.target.executed_precision is Precision.F32
    assert session.target.batch_size == 4


def test_wrong_input_is_refused_as_by_every_session(network, batch):
    with pytest.raises(
        InferenceError, match=r"PyTorch test_resnet: input 'image' got float32 3x3x32x40, expected float32 4x3x32x40"
    ):
        TorchSession(network, SPEC, 4).infer(batch[:3])
