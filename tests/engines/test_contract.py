"""The contract that every engine keeps. An engine whose runtime is missing is skipped, with its reason printed.

Ascend runs on stand-ins of atc and of each of its two runtimes: what is proven is the code here, never a device.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
from chips import engine_options

from modelport import engines
from modelport.engines import open_model
from modelport.engines.compiler import compile_model
from modelport.engines.session import Isolation, Session, SessionOptions
from modelport.errors import CompileError, EngineUnavailableError, FormatError, InferenceError
from modelport.files import digest
from modelport.host import fingerprint
from modelport.offline import MANIFEST, OfflineModel
from modelport.spec import Precision

EXPECTED = {
    "ascend": models.expected_scores,
    "inductor": models.expected_scores,
    "null": models.null_scores,
    "onnxruntime": models.expected_scores,
    "openvino": models.expected_scores,
}
TOLERANCE = {Precision.F32: 1e-5, Precision.FP16: 1e-2}
_RUNTIMES = {"ascend": ("ascend-ais_bench", "ascend-aclruntime")}  # one engine, two ways to run
_FROM_PROGRAM = [name for name in engines.names() if engines.load(name).from_program]
_ISOLATED = ["null-isolated", "onnxruntime-isolated"]  # the others: test_isolated.py


def every(*without: str) -> list[str]:
    return [way for name in engines.names() if name not in without for way in _RUNTIMES.get(name, (name,))]


def installed(way: str, require_engine, ascend) -> str:
    """The engine's name, its stand-ins put in place where it has any; skips where its runtime is missing."""
    name, _, runtime = way.partition("-")
    if name == "ascend":
        ascend(runtime)
    require_engine(name)
    return name


@pytest.fixture(params=[*every(), *_ISOLATED])
def engine(request, require_engine, ascend, monkeypatch) -> str:
    """Each engine in turn; also in a process of its own, which must make no difference."""
    if request.param in _ISOLATED:
        monkeypatch.setattr(engines, "open_model", open_isolated)
    return installed(request.param, require_engine, ascend)


def open_isolated(model: OfflineModel | Path | str, options: SessionOptions | None = None) -> Session:
    """`engines.open_model`, asking for a process of its own."""
    return open_model(model, replace(options or SessionOptions(), isolation=Isolation()))


@pytest.fixture(params=[*every(*_FROM_PROGRAM), *_ISOLATED])
def graph_engine(request, require_engine, ascend, monkeypatch) -> str:
    """Each engine that compiles the ONNX file's own graph; also in a process of its own."""
    if request.param in _ISOLATED:
        monkeypatch.setattr(engines, "open_model", open_isolated)
    return installed(request.param, require_engine, ascend)


@pytest.fixture(params=every("null", *_FROM_PROGRAM))
def graph_runtime(request, require_engine, ascend) -> str:
    """Each engine that compiles and runs the ONNX file's own graph."""
    return installed(request.param, require_engine, ascend)


@pytest.fixture(params=every("null"))
def runtime(request, require_engine, ascend) -> str:
    """Each engine that runs the graph itself."""
    return installed(request.param, require_engine, ascend)


def tolerance(engine: str) -> float:
    """How far scores may be from NumPy's, by the engine's arithmetic."""
    return TOLERANCE[engines.load(engine).precisions[0]]


def edit_manifest(directory: Path, **changes: object) -> Path:
    """Replace top-level fields of a manifest; returns the directory."""
    path = directory / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


def compiled_file(directory: Path) -> Path:
    """The one file that an engine left; of several, the model itself."""
    left = [path for path in directory.iterdir() if path.name != MANIFEST]
    return next((path for path in left if path.stem == "model"), left[0])


def test_every_engine_has_its_row_here():
    assert set(EXPECTED) == set(engines.names())


def test_manifest_says_exactly_what_was_compiled(engine, compiled, tiny_onnx):
    model = compiled(engine, 4)
    manifest = OfflineModel.load(model.path).manifest

    precision = engines.load(engine).precisions[0]

    assert manifest == model.manifest
    assert (manifest.engine.name, manifest.engine.version) == (engine, engines.load(engine).version())
    assert (manifest.precision.requested, manifest.precision.executed) == (precision, precision)
    assert manifest.batch_size == 4
    assert (manifest.input.name, manifest.input.dtype, manifest.input.layout) == ("image", "float32", "NCHW")
    assert manifest.input.shape == (4, *models.SIZE)
    assert (manifest.output.name, manifest.output.dtype, manifest.output.layout) == ("scores", "float32", "NC")
    assert manifest.output.shape == (4, models.CLASSES)
    assert manifest.model == models.SPEC
    assert manifest.onnx_sha256 == digest(tiny_onnx)
    assert manifest.host == (None if engines.load(engine).portable else fingerprint())
    assert {path.name for path in model.path.iterdir()} == {MANIFEST, *manifest.files}
    assert model.label == f"{engine} {precision} batch 4"


@pytest.mark.parametrize("batch_size", [1, 4])
def test_scores_are_those_of_numpy(engine, compiled, batch_size):
    batch = models.images(batch_size)

    with engines.open_model(compiled(engine, batch_size)) as session:
        scores = session.infer(batch)

        assert session.batch_size == batch_size
    assert scores.shape == (batch_size, models.CLASSES)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, EXPECTED[engine](batch), rtol=0, atol=tolerance(engine))


def test_a_directory_or_its_name_can_be_opened(engine, compiled):
    directory = compiled(engine).path
    batch = models.images(1)

    for given in (directory, str(directory)):
        with engines.open_model(given) as session:
            np.testing.assert_allclose(session.infer(batch), EXPECTED[engine](batch), rtol=0, atol=tolerance(engine))


def test_weights_listed_as_inputs_and_weights_in_another_file_compile(graph_engine, tmp_path):
    listed = models.save(models.classifier(weights_as_inputs=True), tmp_path / "listed.onnx")
    apart = models.save_with_external_data(models.classifier(), tmp_path / "apart.onnx", "kernel.bin")
    batch = models.images(2)

    for path in (listed, apart):
        model = compile_model(path, tmp_path / path.stem, engine=graph_engine, options=engine_options(graph_engine, 2))
        with engines.open_model(model) as session:
            np.testing.assert_allclose(
                session.infer(batch), EXPECTED[graph_engine](batch), rtol=0, atol=tolerance(graph_engine)
            )


def test_dynamic_height_and_width_are_fixed_to_the_preprocessing(graph_engine, tmp_path):
    path = models.save(models.classifier(height="H", width="W"), tmp_path / "dynamic.onnx")
    batch = models.images(2)

    model = compile_model(path, tmp_path / "out", engine=graph_engine, options=engine_options(graph_engine, 2))

    with engines.open_model(model) as session:
        np.testing.assert_allclose(
            session.infer(batch), EXPECTED[graph_engine](batch), rtol=0, atol=tolerance(graph_engine)
        )


def test_shapes_that_were_recorded_for_another_batch_are_no_obstacle(graph_engine, tmp_path):
    model = models.classifier()
    model.graph.value_info.append(models.tensor("flat", [1, len(models.KERNEL)]))
    path = models.save(model, tmp_path / "recorded.onnx")
    batch = models.images(2)

    compiled_model = compile_model(path, tmp_path / "out", engine=graph_engine, options=engine_options(graph_engine, 2))

    with engines.open_model(compiled_model) as session:
        np.testing.assert_allclose(
            session.infer(batch), EXPECTED[graph_engine](batch), rtol=0, atol=tolerance(graph_engine)
        )


def test_fixed_batch_compiles_for_itself(graph_engine, tmp_path):
    path = models.save(models.classifier(batch=3), tmp_path / "fixed.onnx")
    batch = models.images(3)

    with engines.open_model(
        compile_model(path, tmp_path / "out", engine=graph_engine, options=engine_options(graph_engine, 3))
    ) as session:
        np.testing.assert_allclose(
            session.infer(batch), EXPECTED[graph_engine](batch), rtol=0, atol=tolerance(graph_engine)
        )


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_as_many_threads_as_slots_may_infer_at_once(engine, compiled, streams):
    batches = [models.images(4, seed) for seed in range(24)]

    with engines.open_model(compiled(engine, 4), SessionOptions(streams=streams)) as session:
        assert session.slots == streams
        start = threading.Barrier(session.slots)

        def work(slot: int) -> dict[int, np.ndarray]:
            start.wait()
            return {number: session.infer(batches[number]) for number in range(slot, len(batches), streams)}

        with ThreadPoolExecutor(session.slots) as pool:
            answers = dict(pair for part in pool.map(work, range(session.slots)) for pair in part.items())

    assert sorted(answers) == list(range(len(batches)))
    for number, scores in answers.items():
        np.testing.assert_allclose(scores, EXPECTED[engine](batches[number]), rtol=0, atol=tolerance(engine))


def test_streams_and_threads_change_no_score(engine, compiled):
    batch = models.images(4)

    with engines.open_model(compiled(engine, 4), SessionOptions(streams=2, threads=2)) as session:
        assert session.slots == 2
        np.testing.assert_allclose(session.infer(batch), EXPECTED[engine](batch), rtol=0, atol=tolerance(engine))


def test_scores_belong_to_the_caller(engine, compiled):
    first_batch, second_batch = models.images(4, 1), models.images(4, 2)

    with engines.open_model(compiled(engine, 4)) as session:
        first = session.infer(first_batch)
        first_batch[:] = 0
        session.infer(second_batch)[:] = 7
        kept = first.copy()
        session.infer(second_batch)

    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(first, EXPECTED[engine](models.images(4, 1)), rtol=0, atol=tolerance(engine))


@pytest.mark.parametrize("kind", ["read-only", "reversed", "transposed"])
def test_any_memory_layout_of_the_right_shape_is_read_rightly(engine, compiled, kind):
    batch = models.images(4)
    if kind == "read-only":
        batch.flags.writeable = False
    elif kind == "reversed":
        batch = batch[::-1, ::-1]
    else:
        batch = np.asfortranarray(batch)

    with engines.open_model(compiled(engine, 4)) as session:
        np.testing.assert_allclose(session.infer(batch), EXPECTED[engine](batch), rtol=0, atol=tolerance(engine))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        pytest.param(lambda batch: batch.astype(np.float64), "float64 4x3x16x12", id="dtype"),
        pytest.param(lambda batch: (batch * 255).astype(np.uint8), "uint8 4x3x16x12", id="bytes"),
        pytest.param(lambda batch: batch[:3], "float32 3x3x16x12", id="batch"),
        pytest.param(lambda batch: batch.transpose(0, 2, 3, 1), "float32 4x16x12x3", id="NHWC"),
        pytest.param(lambda batch: batch.swapaxes(2, 3), "float32 4x3x12x16", id="height and width"),
        pytest.param(lambda batch: batch[0], "float32 3x16x12", id="rank"),
    ],
)
def test_wrong_input_is_refused_with_got_and_expected(engine, compiled, change, got):
    batch = models.images(4)

    with engines.open_model(compiled(engine, 4)) as session:
        with pytest.raises(InferenceError, match=rf"input 'image' got {got}, expected float32 4x3x16x12"):
            session.infer(change(batch))
        np.testing.assert_allclose(session.infer(batch), EXPECTED[engine](batch), rtol=0, atol=tolerance(engine))


def test_closing_twice_is_fine(engine, compiled):
    with engines.open_model(compiled(engine)) as session:
        session.infer(models.images(1))
        session.close()
    session.close()


def test_a_closed_session_refuses_to_infer(engine, compiled):
    session = engines.open_model(compiled(engine))
    session.close()
    raised: list[BaseException] = []

    def infer() -> None:
        try:
            session.infer(models.images(1))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=infer, daemon=True)  # so that a session that hangs fails, and does not hang us
    thread.start()
    thread.join(10)

    assert raised, "infer on a closed session neither answered nor raised"
    assert isinstance(raised[0], InferenceError)
    assert "closed" in str(raised[0])


def test_another_version_of_the_runtime_is_refused(engine, copied):
    installed = engines.load(engine).version()
    directory = edit_manifest(copied(engine), engine={"name": engine, "version": "1999.1"})

    with pytest.raises(
        EngineUnavailableError, match=rf"was compiled with .* 1999\.1, installed is {installed}; compile it again"
    ):
        engines.open_model(directory)


def test_a_processor_with_features_that_are_lacking_here_is_refused(runtime, copied):
    other = fingerprint().model_copy(update={"cpu": "Wonder 9000", "features": (*fingerprint().features, "wonder512")})
    directory = edit_manifest(copied(runtime), host=other.jsonable())

    with pytest.raises(
        EngineUnavailableError,
        match=r"was compiled on another processor \(Wonder 9000, .*\) than this one .*, which lacks wonder512; compile it here",
    ):
        engines.open_model(directory)


def test_another_kind_of_machine_is_refused(runtime, copied):
    other = fingerprint().model_copy(update={"machine": "vax", "features": ()})
    directory = edit_manifest(copied(runtime), host=other.jsonable())

    with pytest.raises(
        EngineUnavailableError, match=rf"another processor \(.*, vax\) .*, a {fingerprint().machine} machine"
    ):
        engines.open_model(directory)


def test_a_processor_with_fewer_features_is_no_obstacle(runtime, copied):
    older = fingerprint().model_copy(update={"cpu": "Older", "features": fingerprint().features[:1]})
    directory = edit_manifest(copied(runtime), host=older.jsonable())

    engines.open_model(directory).close()


def test_a_portable_engine_binds_its_models_to_no_processor(compiled):
    assert engines.load("null").portable
    assert compiled("null").manifest.host is None


def test_an_edited_file_is_refused(engine, copied):
    directory = copied(engine)
    file = compiled_file(directory)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    with pytest.raises(
        FormatError, match=rf"{file.name}: was changed since it was compiled .*; compile the model again"
    ):
        engines.open_model(directory)


def test_a_missing_file_is_refused(engine, copied):
    directory = copied(engine)
    file = compiled_file(directory)
    file.unlink()

    with pytest.raises(FormatError, match=rf"{file.name} is missing; compile the model again"):
        engines.open_model(directory)


def test_rubbish_with_the_right_digest_is_an_error_not_a_crash(runtime, copied):
    directory = copied(runtime)
    file = compiled_file(directory)
    file.write_bytes(b"rubbish" * 100)
    files = json.loads((directory / MANIFEST).read_text())["files"]
    edit_manifest(directory, files=files | {file.name: digest(file)})

    with pytest.raises(InferenceError, match=f"{directory}: {engines.load(runtime).title} .*"):
        engines.open_model(directory)


def test_an_operator_that_the_runtime_lacks_is_a_compile_error_that_names_the_file(graph_runtime, tmp_path):
    path = models.save(models.foreign_operator(), tmp_path / "foreign.onnx")

    with pytest.raises(
        CompileError, match=rf"{engines.load(graph_runtime).title} cannot compile .*foreign\.onnx: .*Teleport"
    ):
        compile_model(
            path,
            tmp_path / "out",
            engine=graph_runtime,
            options=engine_options(graph_runtime),
            preprocess=models.PREPROCESS,
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["foreign.onnx"]


def test_a_number_of_classes_that_the_graph_does_not_answer_is_refused(graph_runtime, tmp_path):
    path = models.save(models.classifier(classes="C", spec=None), tmp_path / "open.onnx")

    with pytest.raises(
        (CompileError, FormatError, InferenceError), match=r"is 1x5, expected 1x9; was --num-classes right"
    ):
        with engines.open_model(
            compile_model(
                path,
                tmp_path / "out",
                engine=graph_runtime,
                options=engine_options(graph_runtime),
                preprocess=models.PREPROCESS,
                num_classes=9,
            )
        ) as session:
            session.infer(models.images(1))


@pytest.mark.parametrize("options", [{"streams": 0}, {"threads": 0}, {"streams": -1}])
def test_less_than_one_stream_or_thread_is_refused(compiled, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        engines.open_model(compiled("null"), SessionOptions(**options))


def test_an_unknown_engine_is_named_with_the_nearest_one():
    with pytest.raises(EngineUnavailableError, match=r"no engine is called 'openvno'; did you mean 'openvino'\?"):
        engines.load("openvno")


def test_an_engine_unlike_any_is_answered_with_all_names():
    with pytest.raises(EngineUnavailableError, match="'zzz'; there are: ascend, inductor, null, onnxruntime, openvino"):
        engines.load("zzz")
