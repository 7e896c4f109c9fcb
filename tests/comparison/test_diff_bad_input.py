"""What cannot be compared is refused with what was given, what is needed, and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import csp
import faults
import models
import numpy as np
import onnx
import pytest
from places import CHECKPOINT

from modelport.comparison.compare import DiffOptions, diff
from modelport.errors import (
    CheckpointError,
    CompileError,
    DataError,
    EngineUnavailableError,
    FormatError,
    OutputError,
)
from modelport.exporter import ExportOptions
from modelport.graph.classifier import SPEC_KEY, write_spec


@pytest.fixture(autouse=True)
def _needs_onnx_runtime(require_engine) -> None:
    require_engine("onnxruntime")


def with_spec(source: Path, target: Path, **changes: object) -> Path:
    shutil.copy(source, target)
    write_spec(target, csp.SPEC.model_copy(update=changes))
    return target


def test_two_different_models(csp_onnx: Path, tiny_onnx: Path) -> None:
    message = (
        r"csp\.onnx and .*tiny\.onnx are two different models \(input 3x32x32 and 3x16x12\); compare two stages of"
    )
    with pytest.raises(FormatError, match=message):
        diff(csp_onnx, tiny_onnx)


def test_two_trainings_of_the_same_network(csp_onnx: Path, tmp_path: Path) -> None:
    first = with_spec(csp_onnx, tmp_path / "first.onnx", checkpoint_sha256="a" * 64)
    second = with_spec(csp_onnx, tmp_path / "second.onnx", checkpoint_sha256="b" * 64, arch="other")
    message = r"two different models \(architecture csp and other; checkpoint aaaaaaaaaaaa… and bbbbbbbbbbbb…\)"
    with pytest.raises(FormatError, match=message):
        diff(first, second)


def test_another_number_of_classes(csp_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(csp_onnx)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head_bias")
    head.CopyFrom(onnx.numpy_helper.from_array(np.zeros((7, 64), np.float32), "head"))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(7, np.float32), "head_bias"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    del model.metadata_props[:]
    spec = csp.SPEC.model_copy(update={"num_classes": 7})
    model.metadata_props.add(key=SPEC_KEY, value=spec.model_dump_json())
    with pytest.raises(FormatError, match=r"two different models \(number of classes 5 and 7\)"):
        diff(csp_onnx, models.save(model, tmp_path / "seven.onnx"))


def test_names_that_do_not_match(csp_onnx: Path, tmp_path: Path) -> None:
    other = faults.rename(csp_onnx, tmp_path / "other.onnx", "_renamed")
    message = (
        r"no tensor name in common besides input and scores .* such as 'conv_0_renamed'\), so layers cannot be matched"
    )
    with pytest.raises(FormatError, match=message):
        diff(csp_onnx, other)


def test_an_offline_model_without_its_onnx_file(csp_onnx: Path, csp_model, tmp_path: Path) -> None:
    model = Path(shutil.copytree(csp_model("onnxruntime").path, tmp_path / "a" / "b" / "c" / "model"))
    message = r"can only be looked at in the ONNX file it was compiled from \(sha256 [0-9a-f]{12}…\), and it does not lie beside"
    with pytest.raises(FormatError, match=message):
        diff(model, "onnxruntime:f32")
    other = with_spec(csp_onnx, tmp_path / "changed.onnx", arch="changed")
    with pytest.raises(
        FormatError, match=r"which is not .*changed\.onnx \(sha256 [0-9a-f]{12}…\); pass that file with --onnx"
    ):
        diff(other, model)
    with pytest.raises(FormatError, match=r"which is not .*gone\.onnx \(not there\)"):
        diff(model, "onnxruntime:f32", options=DiffOptions(onnx=(tmp_path / "gone.onnx",)))


def test_an_engine_that_cannot_show_its_tensors(csp_onnx: Path, csp_model) -> None:
    message = (
        r"the null engine cannot show intermediate tensors; compare with an engine that can: onnxruntime, openvino"
    )
    with pytest.raises(EngineUnavailableError, match=message):
        diff(csp_onnx, csp_model("null").path, options=DiffOptions(onnx=(csp_onnx,)))


def test_a_precision_that_the_engine_does_not_have(csp_onnx: Path) -> None:
    with pytest.raises(CompileError, match="ONNX Runtime does not offer bf16 here; it offers f32, int8"):
        diff(csp_onnx, "onnxruntime:bf16")
    with pytest.raises(CompileError, match=r"onnxruntime:int8: .*csp\.onnx is not quantised: give the quantised file"):
        diff(csp_onnx, "onnxruntime:int8")


def test_an_unknown_engine_gets_its_neighbour(csp_onnx: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"no engine is called 'openvin'; did you mean 'openvino'\?"):
        diff(csp_onnx, "openvin:f32")


def test_nothing_that_can_be_compared(csp_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FormatError, match=r"gone\.xml: no such file or directory; compare an ONNX file, an offline model"
    ):
        diff(csp_onnx, tmp_path / "gone.xml")
    (tmp_path / "notes.md").write_text("none")
    with pytest.raises(FormatError, match=r"notes\.md: is none of these; compare an ONNX file"):
        diff(csp_onnx, tmp_path / "notes.md")
    with pytest.raises(
        FormatError, match=r"emulation:fp16: which graph\? The other side, onnxruntime:f32, is no ONNX file"
    ):
        diff("emulation:fp16", "onnxruntime:f32")


def test_images_that_are_not_there_or_no_images(csp_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no images"):
        diff(csp_onnx, csp_onnx, tmp_path / "empty")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"bad\.png: is not an image that Pillow can read .*; take it out of the images"
    ):
        diff(csp_onnx, csp_onnx, tmp_path / "bad.png")


def test_stored_floats_for_a_model_that_takes_pixels(csp_onnx: Path, csp_model, tmp_path: Path, require_engine) -> None:
    from modelport.engines.base import CompileOptions
    from modelport.engines.compiler import compile_model

    options = CompileOptions(input_dtype="uint8")
    model = compile_model(csp_onnx, tmp_path / "uint8", engine="onnxruntime", options=options)
    np.zeros(csp.SIZE, np.float32).tofile(tmp_path / "zero.bin")
    with pytest.raises(DataError, match="takes uint8 pixels, and these images are preprocessed float32 data"):
        diff(csp_onnx, model.path, tmp_path / "zero.bin")


def test_checkpoints_that_do_not_go(csp_onnx: Path, checkpoint: Path) -> None:
    with pytest.raises(
        FormatError, match=r"cspresnext50_digits\.pth: which network\? Say its architecture with --arch"
    ):
        diff(CHECKPOINT, csp_onnx)
    with pytest.raises(FormatError, match="are both checkpoints: compare one with what became of it"):
        diff(CHECKPOINT, CHECKPOINT)
    export = ExportOptions(arch="resnet18", num_classes=csp.CLASSES)
    with pytest.raises(CheckpointError, match="does not fit ResNet"):
        diff(CHECKPOINT, csp_onnx, options=DiffOptions(export=export))


def test_existing_output_stays(csp_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        diff(csp_onnx, csp_onnx, output=tmp_path / "out")
    with pytest.raises(OutputError, match=r"holds other files \(diff\.json is not among them\): not removed"):
        diff(csp_onnx, csp_onnx, output=tmp_path / "out", force=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1 and max_taps at least 2, got 4 and 1"):
        DiffOptions(limit=4, max_taps=1)
