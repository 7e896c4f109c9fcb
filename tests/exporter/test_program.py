"""Programs for engines that compile PyTorch's network: the right weights, or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from modelport.engines.base import CompileOptions  # noqa: E402
from modelport.errors import CheckpointError, ExportError  # noqa: E402
from modelport.exporter.checkpoint import build_network  # noqa: E402
from modelport.exporter.program import TorchWeights, save_program, with_program  # noqa: E402
from modelport.files import digest  # noqa: E402
from modelport.spec import ModelSpec, Preprocess  # noqa: E402

ARCH, CLASSES, SIZE = "test_resnet", 5, (3, 32, 32)
ONNX = Path("x.onnx")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A checkpoint with weights that are not timm's random ones."""
    network = build_network(ARCH, CLASSES, SIZE)
    torch.nn.init.constant_(network.fc.bias, 3.0)
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save(network.state_dict(), path)
    return path


def spec(checkpoint_sha256: str | None) -> ModelSpec:
    return ModelSpec(
        arch=ARCH, num_classes=CLASSES, checkpoint_sha256=checkpoint_sha256, preprocess=Preprocess(input_size=SIZE)
    )


def test_the_program_has_the_checkpoints_weights_and_the_batch_and_goes_again(weights):
    with with_program(
        CompileOptions(batch_size=2), TorchWeights(checkpoint=weights), spec(digest(weights)), ONNX
    ) as options:
        program = torch.export.load(options.program)
        images = torch.randn(2, *SIZE)
        network = build_network(ARCH, CLASSES, SIZE)
        network.load_state_dict(torch.load(weights, weights_only=True))
        with torch.no_grad():
            torch.testing.assert_close(program.module()(images), network(images))

    assert not Path(options.program).exists()


def test_random_weights_are_those_that_were_exported():
    with with_program(CompileOptions(), TorchWeights(), spec(None), ONNX) as options:
        found = torch.export.load(options.program).state_dict
    expected = build_network(ARCH, CLASSES, SIZE).state_dict()

    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_without_weights_the_options_stay_as_they_are():
    with with_program(CompileOptions(), None, spec(None), ONNX) as options:
        assert options == CompileOptions()


@pytest.mark.parametrize(
    ("given", "told", "message"),
    [
        (
            "file",
            "0" * 64,
            r"w\.pth: is not what x\.onnx was exported from \(sha256 .{12}…, the ONNX file says 000000000000…\)",
        ),
        ("file", None, r"x\.onnx: does not say which checkpoint it was exported from"),
        (
            "random",
            "0" * 64,
            r"x\.onnx: was exported from a checkpoint \(sha256 000000000000…\) .*pass --checkpoint FILE",
        ),
        ("missing", "0" * 64, r"none\.pth: no such checkpoint file"),
    ],
)
def test_other_weights_than_the_onnx_files_are_refused(weights, given, told, message):
    chosen = {"file": weights, "random": None, "missing": weights.with_name("none.pth")}[given]

    with pytest.raises(CheckpointError, match=message):
        with with_program(CompileOptions(), TorchWeights(checkpoint=chosen), spec(told), ONNX):
            pytest.fail("they were taken")


def test_a_network_that_cannot_be_exported_says_so(tmp_path):
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ArithmeticError("no such network")

    with pytest.raises(ExportError, match=r"Broken: torch\.export cannot export it: no such network"):
        save_program(Broken(), (1, 3, 4, 4), tmp_path / "x.pt2")
