"""A real-data run through the null engine: what it writes, what it counts, and what it refuses."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from modelport.accuracy import INFER_FILE, PREDICTIONS_FILE, evaluate
from modelport.data.predictions import Predictions
from modelport.data.source import open_source
from modelport.engines import load
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.engines.null import FAULT
from modelport.engines.session import SessionOptions
from modelport.errors import DataError, FormatError, InferenceError, ModelportError, OutputError
from modelport.inference import infer, share_cores
from modelport.offline import OfflineModel
from modelport.pipeline import PipelineOptions
from modelport.results import InferResult
from modelport.spec import Preprocess
from modelport.work import InferOptions

pytestmark = pytest.mark.timeout(120)
CLASSES = 6
BATCH = 4
COUNT = 10
PREPROCESS = Preprocess(input_size=(3, 8, 8), crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def offline(tmp_path_factory) -> OfflineModel:
    """A pooling classifier of 6 classes, compiled by the null engine for batches of 4."""
    folder = tmp_path_factory.mktemp("offline")
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3, CLASSES], [1.0] * 3 * CLASSES)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["class"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("class", TensorProto.FLOAT, ["N", CLASSES])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), folder / "tiny.onnx")
    options = CompileOptions(batch_size=BATCH)
    return compile_model(folder / "tiny.onnx", folder / "out", engine="null", options=options, preprocess=PREPROCESS)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def grey(number: int) -> int:
    return 20 * number + 10


@pytest.fixture
def images(tmp_path) -> Path:
    """Ten uniform images, each of its own grey."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (12, 9), (grey(number),) * 3).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def labels(tmp_path) -> Path:
    """The null engine always says 5 first, then 4, …, for it multiplies by the class's number."""
    path = tmp_path / "val_label.txt"
    path.write_text("".join(f"{number}.png {5 if number < 6 else 4}\n" for number in range(COUNT)))
    return path


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def options(limit: int | None = None, streams: int = 1, **pipeline: object) -> InferOptions:
    return InferOptions(limit=limit, session=SessionOptions(streams=streams), pipeline=PipelineOptions(**pipeline))


class TestOutput:
    def test_one_row_for_each_image_in_order(self, offline, images, out):
        infer(offline, images, out, options=options(keep_scores=True))
        found = Predictions.read(out / PREDICTIONS_FILE)
        assert found.keys == [f"{number}.png" for number in range(COUNT)]
        assert found.top.tolist() == [[5, 4, 3, 2, 1]] * COUNT
        expected = np.array([grey(n) / 255 for n in range(COUNT)])[:, None] * np.arange(1, CLASSES + 1)
        np.testing.assert_allclose(found.scores, expected, rtol=1e-5)

    def test_the_result_is_what_was_written(self, offline, images, out):
        result = infer(offline, images, out)
        assert InferResult.read(out / INFER_FILE) == result
        assert visible(out) == sorted([INFER_FILE, PREDICTIONS_FILE])

    def test_the_result_says_what_ran_on_what(self, offline, images, out):
        result = infer(offline, images, out, options=options(streams=2))
        assert (result.name, result.executed_precision, result.batch_size, result.streams) == (
            "null-f32",
            "f32",
            BATCH,
            2,
        )
        assert result.model == offline.manifest.model
        assert (result.images, result.failures, result.limit, result.source) == (COUNT, 0, None, str(images))
        assert result.bad_images == ()

    def test_figures_agree_with_each_other(self, offline, images, out):
        result = infer(offline, images, out)
        assert [stage.name for stage in result.stages] == ["read", "decode", "batch", "infer", "post"]
        assert {stage.images for stage in result.stages} == {COUNT}
        assert result.e2e.throughput == pytest.approx(COUNT / result.e2e.wall_s)
        assert result.interface.throughput == pytest.approx(COUNT / result.interface.busy_s)
        assert result.interface.busy_s <= result.e2e.wall_s
        assert result.limiting_stage.busy_share == max(stage.busy_share for stage in result.stages)

    @pytest.mark.parametrize("how", ["model and source", "paths as text"])
    def test_ways_to_say_what(self, offline, images, out, how):
        given = (offline, open_source(images)) if how == "model and source" else (str(offline.path), str(images))
        assert infer(*given, out if how == "model and source" else str(out)).images == COUNT

    def test_progress_is_told_image_by_image(self, offline, images, out):
        told = []
        infer(offline, images, out, progress=lambda *what: told.append(what))
        assert told == [("infer null-f32", done, COUNT) for done in range(1, COUNT + 1)]


class TestLabels:
    def test_are_kept_and_evaluate(self, offline, images, labels, out):
        infer(offline, images, out, labels=labels)
        assert Predictions.read(out / PREDICTIONS_FILE).labels == [5] * 6 + [4] * 4
        assert evaluate(out, labels).hits == (6, 10, 10, 10, 10)

    def test_out_of_range(self, offline, images, labels, out):
        labels.write_text("0.png 6\n")
        with pytest.raises(DataError, match=r"val_label\.txt: '0' has label 6, the model has classes 0 to 5"):
            infer(offline, images, out, labels=labels)
        assert not out.exists()

    def test_of_other_images(self, offline, images, labels, out):
        labels.write_text("somebody_else.png 1\n")
        expected = r"val_label\.txt: labels none of the images in .*images \(first image: 0\.png\)$"
        with pytest.raises(DataError, match=expected):
            infer(offline, images, out, labels=labels)


class TestLimit:
    @pytest.mark.parametrize(("limit", "images_done"), [(1, 1), (3, 3), (4, 4), (99, COUNT)])
    def test_first_images_only(self, offline, images, out, limit, images_done):
        result = infer(offline, images, out, options=options(limit=limit))
        assert (result.images, result.limit) == (images_done, limit)
        assert Predictions.read(out / PREDICTIONS_FILE).keys == [f"{number}.png" for number in range(images_done)]

    def test_evaluate_does_not_hold_it_against_the_model(self, offline, images, labels, out):
        infer(offline, images, out, labels=labels, options=options(limit=7))
        found = evaluate(out, labels)
        assert (found.images, found.not_requested, found.missing, found.hits[0]) == (7, 3, 0, 6)


class TestBadImages:
    @pytest.fixture
    def spoilt(self, images) -> Path:
        (images / "3.png").write_bytes(b"")
        (images / "8.png").write_text("no image")
        return images

    def test_counted_each_has_its_row_and_its_reason(self, offline, spoilt, labels, out):
        result = infer(offline, spoilt, out, labels=labels)
        assert (result.images, result.failures) == (COUNT, 2)
        assert [bad.key for bad in result.bad_images] == ["3.png", "8.png"]
        found = Predictions.read(out / PREDICTIONS_FILE)
        assert [row for row, error in enumerate(found.errors) if error] == [3, 8]
        assert found.labels[3] == 5
        accuracy = evaluate(out, labels)
        assert (accuracy.images, accuracy.failed, accuracy.hits[0]) == (COUNT, 2, 5)

    def test_failing_leaves_no_result(self, offline, spoilt, out):
        with pytest.raises(
            DataError, match=r"3\.png: the file is empty \(0 bytes\); --on-bad-image count|8\.png: is not"
        ):
            infer(offline, spoilt, out, options=options(count_bad_images=False))
        assert visible(out) == []

    def test_scores_that_are_not_finite(self, offline, images, out, monkeypatch):
        monkeypatch.setenv(FAULT, "infer-nan:1")
        result = infer(offline, images, out, options=options(decoders=1))  # one decoder: batches come in order
        assert result.failures == BATCH
        assert [bad.key for bad in result.bad_images] == ["0.png", "1.png", "2.png", "3.png"]
        assert "not finite" in result.bad_images[0].reason

    def test_name_that_is_not_utf8(self, offline, images, out):
        """File systems allow it; the image is classified, or it is refused in one line, but it is no bug's traceback."""
        shutil.copy(images / "0.png", images / os.fsdecode(b"caf\xe9.png"))
        try:
            result = infer(offline, images, out)
        except ModelportError as error:
            assert "caf" in str(error)  # noqa: PT017 (either outcome is right)
        else:
            assert result.images == COUNT + 1


class TestSharingCores:
    def test_one_stream_of_one_thread_a_core_unless_told(self, offline, images, out, monkeypatch):
        monkeypatch.setattr("modelport.inference.usable_cores", lambda: 3)
        result = infer(offline, images, out)
        assert (result.streams, result.threads) == (3, 3)

    @pytest.mark.parametrize(("threads", "shared"), [(2, (2, 2)), (32, (8, 32))])
    def test_within_the_threads_that_are_allowed(self, threads, shared):
        found = share_cores(load("null"), SessionOptions(threads=threads))
        assert (found.streams, found.threads) == shared

    @pytest.mark.parametrize("told", [SessionOptions(streams=1), SessionOptions(streams=2, threads=4)])
    def test_what_is_told_is_kept(self, told):
        assert share_cores(load("null"), told) == told

    def test_an_accelerator_shares_no_cores(self):
        assert share_cores(load("ascend"), SessionOptions()) == SessionOptions()

    def test_processor_time_is_measured_by_stage(self, offline, images, out):
        result = infer(offline, images, out)
        assert all(stage.cpu_s > 0 for stage in result.stages if stage.name in ("decode", "post"))
        assert [stage.name for stage in result.stages if not stage.on_cores] == [
            "read",
            "infer",
        ]  # null computes nowhere


class TestRefused:
    def test_existing_output_before_any_work(self, offline, images, out):
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        with pytest.raises(OutputError, match=r"out exists already: choose another output, or pass --force to replace"):
            infer(offline, images, out)
        assert [path.name for path in out.iterdir()] == ["mine.txt"]

    def test_force_replaces_an_earlier_run(self, offline, images, out):
        infer(offline, images, out, options=options(limit=1))
        assert infer(offline, images, out, existing="replace").images == COUNT
        assert len(Predictions.read(out / PREDICTIONS_FILE).keys) == COUNT

    def test_force_does_not_replace_the_images_themselves(self, offline, images):
        with pytest.raises(OutputError, match="images: holds other files"):
            infer(offline, images, images, existing="replace")
        assert len(list(images.iterdir())) == COUNT

    def test_an_engine_that_fails_leaves_the_earlier_run(self, offline, images, out, monkeypatch):
        before = infer(offline, images, out)
        monkeypatch.setenv(FAULT, "infer-raise:2")
        with pytest.raises(InferenceError, match="the null engine failed"):
            infer(offline, images, out, existing="replace")
        assert InferResult.read(out / INFER_FILE) == before
        assert sorted(path.name for path in out.parent.iterdir()) == ["images", "out"]

    def test_no_images(self, offline, tmp_path, out):
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="empty: holds no images"):
            infer(offline, tmp_path / "empty", out)

    def test_no_model(self, tmp_path, images, out):
        with pytest.raises(FormatError, match=r"images: is not an offline model \(has no manifest\.json\)"):
            infer(images, images, out)


def test_raw_inputs_by_list_equal_images(offline, images, tmp_path):
    """The guide's way: preprocessed `.bin` files and an `.info` list."""
    prepared = tmp_path / "prep"
    prepared.mkdir()
    lines = []
    for number in range(COUNT):
        values = np.full((3, 8, 8), grey(number), dtype=np.float32) / np.float32(255)
        (prepared / f"{number}.bin").write_bytes(values.astype("<f4").tobytes())
        lines.append(f"{number} prep/{number}.bin 8 8\n")
    (tmp_path / "prep.info").write_text("".join(lines))
    for what, where in ((images, "a"), (tmp_path / "prep.info", "b")):
        infer(offline, what, tmp_path / where, options=options(keep_scores=True))
    by_image, by_list = (Predictions.read(tmp_path / where / PREDICTIONS_FILE) for where in "ab")
    np.testing.assert_array_equal(by_image.scores, by_list.scores)
