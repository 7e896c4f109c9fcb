"""Checkpoint to ONNX: the opset asked for, the batch asked for, the metadata, and the proof against PyTorch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest

from modelport.errors import CheckpointError, ExportError, OutputError
from modelport.files import digest
from modelport.graph import read_classifier
from modelport.spec import Preprocess

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'modelport[export]'")
pytest.importorskip("timm", reason="timm is not installed: pip install 'modelport[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from modelport.exporter import ExportOptions, export  # noqa: E402
from modelport.exporter.checkpoint import build_network  # noqa: E402
from modelport.exporter.export import load_network  # noqa: E402

ARCH, CLASSES, SIDE = "test_resnet", 10, 32
PREPROCESS = Preprocess(input_size=(3, SIDE, SIDE), crop_pct=0.5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights of a tiny network whose batch statistics are not the neutral ones of a fresh network."""
    torch.manual_seed(5)
    network = build_network(ARCH, CLASSES, None).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 3, SIDE, SIDE) + 0.5)
    path = tmp_path_factory.mktemp("checkpoint") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def options(checkpoint):
    """`options(**changes)`: the usual export of these tests."""

    def make(**changes: object) -> ExportOptions:
        usual = {"arch": ARCH, "checkpoint": checkpoint, "num_classes": CLASSES, "preprocess": PREPROCESS, "opset": 11}
        return ExportOptions(**usual | changes)

    return make


@pytest.fixture(scope="module")
def exported(options, tmp_path_factory):
    """The usual export at opset 11, made once. Not to be written to."""
    return export(options(), tmp_path_factory.mktemp("exported") / "model.onnx")


def pytorch_scores(options: ExportOptions, batch: np.ndarray) -> np.ndarray:
    """What the network itself answers."""
    network, _, _ = load_network(options)
    with torch.no_grad():
        return network(torch.from_numpy(batch)).numpy()


def onnx_scores(path, batch: np.ndarray) -> np.ndarray:
    """What the file answers in ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["class"], {"image": batch})[0]


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_file_has_the_opset_and_the_batch_that_were_asked_for(options, tmp_path, opset, batch_size):
    asked = options(opset=opset, batch_size=batch_size)

    result = export(asked, tmp_path / "model.onnx")

    graph = read_classifier(result.path)
    imports = {entry.domain: entry.version for entry in onnx.load(result.path).opset_import}
    assert imports[""] == opset == graph.opset == result.opset
    assert graph.batch_size == batch_size
    assert graph.input_size == (3, SIDE, SIDE)
    assert (graph.input_name, graph.output_name, graph.num_classes) == ("image", "class", CLASSES)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    for size in (1, 5) if batch_size is None else (batch_size,):
        batch = np.random.default_rng(size).standard_normal((size, 3, SIDE, SIDE), dtype=np.float32)
        np.testing.assert_allclose(onnx_scores(result.path, batch), pytorch_scores(asked, batch), rtol=0, atol=1e-4)


def test_the_metadata_says_what_the_model_needs(exported, checkpoint):
    spec = read_classifier(exported.path).spec

    assert spec == exported.spec
    assert (spec.arch, spec.num_classes) == (ARCH, CLASSES)
    assert spec.checkpoint_sha256 == digest(checkpoint)
    assert spec.preprocess == PREPROCESS


def test_parity_is_in_the_result(exported):
    assert exported.parity.passed
    assert exported.parity.against == f"PyTorch {torch.__version__}"
    assert exported.parity.tolerance == 1e-4
    assert exported.parity.samples >= 8
    assert exported.parity.scale > 0.01
    assert exported.parity.top1_agreement == 1.0


def test_a_batch_larger_than_the_samples_of_the_proof_is_proven_too(options, tmp_path):
    result = export(options(batch_size=9), tmp_path / "model.onnx")

    assert result.parity.passed
    assert result.parity.samples >= 9
    assert read_classifier(result.path).batch_size == 9


@pytest.mark.parametrize("tolerance", [0.0, -1.0])
def test_a_file_that_differs_from_pytorch_is_not_left_behind(options, tmp_path, tolerance):
    with pytest.raises(
        ExportError,
        match=rf"{ARCH}: the exported graph differs from PyTorch by up to .*, tolerance {tolerance:g} of that; try",
    ):
        export(options(tolerance=tolerance), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_with_force_keeps_the_file_of_before(options, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"proven yesterday")

    with pytest.raises(ExportError, match="differs from PyTorch"):
        export(options(tolerance=-1.0), path, force=True)
    assert path.read_bytes() == b"proven yesterday"


def test_existing_output_is_refused_and_force_replaces_it(options, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"mine")

    with pytest.raises(OutputError, match=f"{path} exists already: choose another output, or pass --force"):
        export(options(), path)
    assert path.read_bytes() == b"mine"

    export(options(), path, force=True)
    assert read_classifier(path).num_classes == CLASSES


@pytest.mark.parametrize("opset", [5, 99])
def test_an_opset_that_torch_cannot_write_is_an_error_that_leaves_nothing(options, tmp_path, opset, capfd):
    with pytest.raises(ExportError, match=rf"{ARCH}.*opset.*{opset}"):
        export(options(opset=opset), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == "", "stdout is for data"


def test_an_operator_that_the_opset_lacks_is_named(tmp_path):
    options = ExportOptions(arch="test_vit", num_classes=CLASSES, input_size=64, opset=11)

    with pytest.raises(ExportError, match=r"torch cannot export test_vit at opset 11: .*scaled_dot_product_attention"):
        export(options, tmp_path / "model.onnx")


def test_a_vision_transformer_takes_another_input_size(tmp_path):
    result = export(
        ExportOptions(arch="test_vit", num_classes=CLASSES, input_size=64, opset=18), tmp_path / "model.onnx"
    )

    graph = read_classifier(result.path)
    assert graph.input_size == (3, 64, 64)
    assert graph.batch_size is None
    assert graph.spec.preprocess.input_size == (3, 64, 64)
    assert result.parity.passed


def test_random_weights_are_warned_of_and_have_no_digest(options):
    _, spec, random = load_network(options(checkpoint=None))
    _, _, trained = load_network(options())

    assert spec.checkpoint_sha256 is None
    assert [
        note for note in random if f"{ARCH}: random weights: its speed is real, its predictions mean nothing" in note
    ]
    assert not [note for note in trained if "random weights" in note]


def test_warnings_are_in_the_result_and_are_logged(options, tmp_path, caplog):
    result = export(options(checkpoint=None), tmp_path / "model.onnx")

    assert len(result.warnings) == 2  # preprocessing, random weights
    assert [record.getMessage() for record in caplog.records if record.name == "modelport"] == list(result.warnings)


def test_preprocessing_that_is_not_timms_default_is_warned_of_field_by_field():
    given = Preprocess(input_size=(3, 224, 224), crop_pct=0.875)

    _, spec, notes = load_network(ExportOptions(arch="cspresnext50", preprocess=given))

    assert spec.preprocess == given
    assert spec.num_classes == 1000
    warning = next(note for note in notes if "preprocessing" in note)
    assert "cspresnext50: the preprocessing is not timm's default (ours, timm's)" in warning
    assert "input_size: [3, 224, 224], [3, 256, 256]" in warning
    assert "crop_pct: 0.875, 0.887" in warning
    assert "mean" not in warning


def test_timms_own_preprocessing_is_not_warned_of():
    _, spec, notes = load_network(ExportOptions(arch="cspresnext50"))

    assert (spec.preprocess.input_size, spec.preprocess.crop_pct) == ((3, 256, 256), 0.887)
    assert not [note for note in notes if "preprocessing" in note]


def test_input_size_replaces_the_preprocessings(options):
    _, spec, _ = load_network(options(input_size=48))

    assert spec.preprocess == PREPROCESS.model_copy(update={"input_size": (3, 48, 48)})


def test_a_wrong_pin_stops_before_anything_is_written(options, tmp_path):
    with pytest.raises(CheckpointError, match=r"md5 is .*, pinned is 00"):
        export(options(pins={"md5": "00"}), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["torch", "timm"])
def test_without_pytorch_or_timm_the_extra_is_named(tmp_path, package):
    code = (
        f"import sys; sys.modules[{package!r}] = None; import modelport\n"
        "from modelport.exporter import ExportOptions\n"
        "try: modelport.export(ExportOptions(arch='test_resnet'), sys.argv[1])\n"
        "except modelport.EngineUnavailableError as error: print(error)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.onnx")], capture_output=True, text=True)

    assert child.stdout.startswith("reading a checkpoint needs PyTorch and timm ("), child.stderr
    assert child.stdout.endswith("pip install 'modelport[export]'\n")
