"""Compiling in a child process: a crash becomes a message, and nothing is left half-written."""

from __future__ import annotations

from pathlib import Path

import models
import pytest

import modelport
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.engines.null import FAULT
from modelport.errors import CompileError, EngineUnavailableError, FormatError, OutputError
from modelport.offline import OfflineModel
from modelport.spec import Precision, Preprocess


def names(directory: Path) -> list[str]:
    """Everything in a directory, hidden files included."""
    return sorted(path.name for path in directory.iterdir())


def test_a_compiler_that_dies_by_a_signal_is_a_message_and_leaves_nothing(tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.setenv(FAULT, "compile-signal")

    with pytest.raises(
        CompileError,
        match=rf"tiny\.onnx: the null engine {modelport.__version__}'s compiler died \(SIGSEGV\) at f32, batch 4: .+; "
        "try another precision or version",
    ):
        compile_model(tiny_onnx, tmp_path / "out", engine="null", options=CompileOptions(batch_size=4))
    assert names(tmp_path) == []


def test_an_error_of_the_compiler_arrives_unchanged_and_leaves_nothing(tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.setenv(FAULT, "compile-raise")

    with pytest.raises(CompileError, match=rf"^the null engine cannot compile .*tiny\.onnx: {FAULT} asked for it$"):
        compile_model(tiny_onnx, tmp_path / "out", engine="null")
    assert names(tmp_path) == []


@pytest.mark.parametrize("fault", ["compile-signal", "compile-raise"])
def test_a_failure_with_force_keeps_what_was_there(compiled, copied, tiny_onnx, monkeypatch, fault):
    directory = copied("null", 4)
    monkeypatch.setenv(FAULT, fault)

    with pytest.raises(CompileError):
        compile_model(tiny_onnx, directory, engine="null", force=True)
    assert OfflineModel.load(directory).manifest == compiled("null", 4).manifest
    assert names(directory.parent) == [directory.name]


def test_existing_output_is_refused_before_anything_is_compiled(copied, tiny_onnx, monkeypatch):
    directory = copied("null", 4)
    monkeypatch.setenv(FAULT, "compile-signal")

    with pytest.raises(OutputError, match=f"{directory} exists already: choose another output, or pass --force"):
        compile_model(tiny_onnx, directory, engine="null")
    assert OfflineModel.load(directory).manifest.batch_size == 4


def test_force_replaces_the_output_whole(copied, tiny_onnx):
    directory = copied("null", 4)
    (directory / "stray").write_text("left from before")

    compile_model(tiny_onnx, directory, engine="null", force=True)

    assert OfflineModel.load(directory).manifest.batch_size == 1
    assert "stray" not in names(directory)


def test_an_empty_directory_counts_as_absent_and_parents_are_made(tiny_onnx, tmp_path):
    (tmp_path / "empty").mkdir()

    for output in (tmp_path / "empty", tmp_path / "a" / "b"):
        compile_model(tiny_onnx, output, engine="null")
        assert OfflineModel.load(output).manifest.engine.name == "null"


def test_an_output_below_a_file_is_refused(tiny_onnx, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match=r"cannot write .*file/out: "):
        compile_model(tiny_onnx, tmp_path / "file" / "out", engine="null")


def test_paths_may_be_relative_and_hold_any_letters(tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("modèle à 1.onnx").write_bytes(tiny_onnx.read_bytes())

    model = compile_model("modèle à 1.onnx", "sortie é", engine="null")

    assert OfflineModel.load(tmp_path / "sortie é").manifest == model.manifest


def test_modules_that_lie_in_the_working_directory_are_not_run(tiny_onnx, tmp_path, monkeypatch):
    """Users keep scripts called `onnx.py` beside their models; the child process must not import them."""
    for name in ("onnx", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the working directory was imported from')\n")
    monkeypatch.chdir(tmp_path)

    compile_model(tiny_onnx, tmp_path / "out", engine="null")


def test_given_preprocess_and_classes_reach_the_manifest(tmp_path):
    path = models.save(models.classifier(spec=None, classes="C"), tmp_path / "plain.onnx")
    given = Preprocess(input_size=models.SIZE, crop_pct=0.5)

    spec = compile_model(path, tmp_path / "out", engine="null", preprocess=given, num_classes=7).manifest.model

    assert (spec.arch, spec.num_classes, spec.preprocess) == ("plain", 7, given)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(models.classifier(spec=None), "carries no preprocessing: .*--recipe", id="no preprocessing"),
        pytest.param(models.classifier(batch=8), "its batch is fixed at 8, cannot compile it for 1", id="fixed batch"),
        pytest.param(models.two_inputs(), "has 2 inputs", id="no classifier"),
    ],
)
def test_unfit_files_are_refused(tmp_path, model, message):
    path = models.save(model, tmp_path / "model.onnx")

    with pytest.raises(FormatError, match=message):
        compile_model(path, tmp_path / "out", engine="null")
    assert names(tmp_path) == ["model.onnx"]


def test_a_precision_that_the_engine_lacks_is_refused(tiny_onnx, tmp_path):
    with pytest.raises(CompileError, match="the null engine does not offer bf16 here; it offers f32"):
        compile_model(tiny_onnx, tmp_path / "out", engine="null", options=CompileOptions(precision=Precision.BF16))


def test_an_unknown_engine_is_refused(tiny_onnx, tmp_path):
    with pytest.raises(EngineUnavailableError, match="'onnx-runtime'; did you mean 'onnxruntime'"):
        compile_model(tiny_onnx, tmp_path / "out", engine="onnx-runtime")


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_below_one_is_refused(tiny_onnx, tmp_path, batch_size):
    with pytest.raises((ValueError, CompileError, FormatError), match=rf"\bbatch[^/]*{batch_size}\b"):
        compile_model(tiny_onnx, tmp_path / "out", engine="null", options=CompileOptions(batch_size=batch_size))
    assert names(tmp_path) == []
