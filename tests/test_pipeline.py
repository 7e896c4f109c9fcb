"""The pipeline: order, batches, bad images, failing engines, being abandoned, and statistics that add up."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.data.decode import Decoder
from modelport.data.source import Sample, Source
from modelport.engines.null import FAULT, NullSession
from modelport.engines.session import Session
from modelport.errors import DataError, InferenceError
from modelport.offline import EngineVersion, Manifest, OfflineModel, PrecisionPair, TensorSpec
from modelport.pipeline import Pipeline, PipelineOptions
from modelport.spec import ModelSpec, Precision, Preprocess

pytestmark = pytest.mark.timeout(120)
CLASSES = 7
PATIENCE = 20  # seconds; only a failing test waits so long
PREPROCESS = Preprocess(input_size=(3, 4, 4), crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
DECODER = Decoder(PREPROCESS)


def tensors(batch_size: int, classes: int = CLASSES) -> tuple[TensorSpec, TensorSpec]:
    return (
        TensorSpec(name="image", dtype="float32", shape=(batch_size, 3, 4, 4), layout="NCHW"),
        TensorSpec(name="class", dtype="float32", shape=(batch_size, classes), layout="NC"),
    )


def null_session(batch_size: int, slots: int = 1, classes: int = CLASSES) -> NullSession:
    """The shipped fake: a score is the image's mean times the class's number."""
    image, scores = tensors(batch_size, classes)
    manifest = Manifest(
        engine=EngineVersion(name="null", version="0"),
        precision=PrecisionPair(requested=Precision.F32, executed=Precision.F32),
        batch_size=batch_size,
        input=image,
        output=scores,
        model=ModelSpec(arch="tiny", num_classes=classes, preprocess=PREPROCESS),
        onnx_sha256="0" * 64,
        host=None,
        files={},
    )
    return NullSession(OfflineModel(path=Path("tiny"), manifest=manifest), slots)


class ScriptedSession(Session):
    """Scores are what a function makes of the batch. Remembers each batch."""

    def __init__(self, batch_size: int, answer: Callable[[np.ndarray], np.ndarray], slots: int = 1) -> None:
        super().__init__("scripted", tensors(batch_size), slots)
        self._answer, self.batches = answer, []

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(batch.copy())
        return self._answer(batch)


def mean_scores(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=(1, 2, 3))[:, None] * np.arange(1, CLASSES + 1, dtype=np.float32)


def fail_from_third(batch: np.ndarray) -> np.ndarray:
    """Fails at the image whose value is 0.3 (see `numbered`)."""
    if batch.max() > 0.25:
        raise InferenceError("the device fell over")
    return mean_scores(batch)


@pytest.fixture
def numbered(tmp_path) -> Callable[[int], Source]:
    """`numbered(n)`: raw inputs 0…n-1, number i filled with (i + 1) / 10."""

    def make(count: int) -> Source:
        samples = []
        for number in range(count):
            path = tmp_path / f"{number:04}.bin"
            path.write_bytes(np.full((3, 4, 4), (number + 1) / 10, dtype="<f4").tobytes())
            samples.append(Sample(path.name, path))
        return Source(str(tmp_path), tuple(samples))

    return make


@pytest.fixture
def mixed(tmp_path) -> Source:
    """Ten images; those at 1, 4, 5 and 9 are bad, each in its own way."""
    samples = []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (9, 7), (25 * number + 5,) * 3).save(path)
        samples.append(Sample(path.name, path))
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "4.png").unlink()
    (tmp_path / "5.png").write_text("no image")
    (tmp_path / "9.png").write_bytes((tmp_path / "8.png").read_bytes()[:50])
    return Source(str(tmp_path), tuple(samples))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) - before == set()


def run(session: Session, source: Source, **options: object) -> tuple[list, Pipeline]:
    pipeline = Pipeline(session, DECODER, PipelineOptions(**options))
    return list(pipeline.run(source)), pipeline


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def workers_alive(before: set[threading.Thread]) -> bool:
    return bool(set(threading.enumerate()) - before)


class TestOrder:
    @pytest.mark.parametrize(
        ("count", "batch_size", "slots", "decoders", "readers"),
        [
            (1, 1, 1, 1, 1),
            (1, 8, 1, 2, 1),
            (1, 8, 4, 4, 4),
            (7, 3, 2, 3, 1),
            (8, 4, 2, 2, 2),
            (5, 64, 1, 8, 3),
            (101, 1, 4, 4, 2),
            (101, 8, 4, 4, 3),
            (100, 16, 3, 1, 1),
            (97, 5, 1, 7, 4),
        ],
    )
    def test_every_image_once_in_order_with_its_own_scores(self, numbered, count, batch_size, slots, decoders, readers):
        source = numbered(count)
        options = {"decoders": decoders, "readers": readers, "keep_scores": True}
        predictions, pipeline = run(null_session(batch_size, slots), source, **options)
        assert [prediction.sample for prediction in predictions] == list(source)
        given = np.arange(1, count + 1) / 10
        found = np.stack([prediction.scores for prediction in predictions])
        np.testing.assert_allclose(found, given[:, None] * np.arange(1, CLASSES + 1), rtol=1e-5)
        assert all(prediction.error is None for prediction in predictions)
        assert pipeline.bad_images == []

    def test_batches_that_come_back_in_another_order(self, numbered):
        """The first batch is held back until the second has been scored."""
        second_scored = threading.Event()

        def answer(batch: np.ndarray) -> np.ndarray:
            number = round(float(batch.max()) * 10)
            if number == 1:
                assert second_scored.wait(PATIENCE)
            elif number == 3:  # the same thread has handed number 2 over before it took this one
                second_scored.set()
            return mean_scores(batch)

        predictions, _ = run(ScriptedSession(1, answer, slots=2), numbered(6), keep_scores=True)
        assert [round(float(prediction.scores[0]) * 10) for prediction in predictions] == [1, 2, 3, 4, 5, 6]

    def test_results_survive_the_reuse_of_their_buffers(self, numbered):
        """Kept predictions must not be views into a buffer that the next images are written to."""
        predictions, _ = run(null_session(2), numbered(60), keep_scores=True)
        assert [round(float(prediction.top_scores[-1] * 10)) for prediction in predictions] == [
            round((i + 1) / 10 * 3 * 10) for i in range(60)
        ]

    def test_top_five_with_their_scores_ties_to_the_lower_index(self, numbered):
        row = np.float32([0, 3, 1, 3, 2, 0, 0.5])
        (prediction,), _ = run(ScriptedSession(1, lambda batch: row[None].copy()), numbered(1))
        assert prediction.top.tolist() == [1, 3, 4, 2, 6]
        assert prediction.top_scores.tolist() == [3, 3, 2, 1, 0.5]

    def test_scores_are_kept_only_where_asked(self, numbered):
        predictions, _ = run(null_session(2), numbered(3))
        assert [prediction.scores for prediction in predictions] == [None] * 3

    def test_fewer_than_five_classes(self, numbered):
        predictions, _ = run(null_session(2, classes=3), numbered(3))
        assert [prediction.top.tolist() for prediction in predictions] == [[2, 1, 0]] * 3

    def test_no_images(self):
        predictions, pipeline = run(null_session(4), Source("nowhere", ()))
        assert predictions == []
        assert [stage.images for stage in pipeline.stages] == [0] * 5


class TestSlots:
    def test_as_many_batches_run_at_once_as_there_are_slots(self, numbered):
        together = threading.Barrier(3)

        def answer(batch: np.ndarray) -> np.ndarray:
            together.wait(PATIENCE)  # raises if three calls do not overlap
            return mean_scores(batch)

        predictions, _ = run(ScriptedSession(2, answer, slots=3), numbered(12))
        assert len(predictions) == 12

    def test_no_more_batches_run_at_once_than_there_are_slots(self, numbered):
        running, most, lock = 0, 0, threading.Lock()

        def answer(batch: np.ndarray) -> np.ndarray:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.002)
            with lock:
                running -= 1
            return mean_scores(batch)

        run(ScriptedSession(1, answer, slots=2), numbered(40), decoders=4)
        assert most <= 2


class TestPadding:
    def test_a_short_last_batch_is_filled_with_zeros(self, numbered):
        session = ScriptedSession(4, mean_scores)
        predictions, pipeline = run(session, numbered(30))
        assert len(predictions) == 30
        assert [batch.shape for batch in session.batches] == [(4, 3, 4, 4)] * 8
        last = session.batches[-1]
        assert last[:2].min() > 0
        assert last[2:].max() == 0, "rows of an earlier batch must not show"
        assert pipeline.interface.throughput * pipeline.interface.busy_s == pytest.approx(30)

    @pytest.mark.parametrize("count", [1, 5, 9])
    def test_what_the_model_says_of_padding_is_never_looked_at(self, numbered, count):
        def nan_for_empty(batch: np.ndarray) -> np.ndarray:
            scores = mean_scores(batch)
            scores[batch.max(axis=(1, 2, 3)) == 0] = np.nan
            return scores

        predictions, pipeline = run(ScriptedSession(4, nan_for_empty), numbered(count))
        assert [prediction.error for prediction in predictions] == [None] * count
        assert pipeline.bad_images == []
        by_name = {stage.name: stage for stage in pipeline.stages}
        assert {stage.images for stage in by_name.values()} == {count}
        assert {stage.failures for stage in by_name.values()} == {0}


class TestBadImages:
    REASONS = (
        ("1.png", r"the file is empty \(0 bytes\)"),
        ("4.png", "cannot be read: No such file or directory"),
        ("5.png", r"is not an image that Pillow can read \(begins with b'no image'\)"),
        ("9.png", "is damaged: .+"),
    )

    @pytest.mark.parametrize(("batch_size", "slots", "decoders"), [(1, 1, 1), (4, 2, 3), (16, 1, 2), (3, 2, 4)])
    def test_counted_they_are_listed_in_input_order(self, mixed, batch_size, slots, decoders):
        predictions, pipeline = run(null_session(batch_size, slots), mixed, decoders=decoders, readers=2)
        assert [prediction.sample for prediction in predictions] == list(mixed)
        assert [bad.key for bad in pipeline.bad_images] == [key for key, _ in self.REASONS]
        for bad, (_, reason) in zip(pipeline.bad_images, self.REASONS, strict=True):
            assert re.fullmatch(reason, bad.reason)
        failed = {prediction.sample.key: prediction for prediction in predictions if prediction.error}
        assert {key: found.error for key, found in failed.items()} == {b.key: b.reason for b in pipeline.bad_images}
        assert all(found.top.size == found.top_scores.size == 0 for found in failed.values())
        assert all(found.scores is None for found in failed.values())

    def test_the_good_ones_beside_them_are_not_touched(self, mixed):
        predictions, _ = run(null_session(4), mixed, keep_scores=True)
        for number, prediction in enumerate(predictions):
            if prediction.error is None:
                assert prediction.scores[0] == pytest.approx((25 * number + 5) / 255, rel=1e-5)

    def test_their_rows_are_zeros_not_what_lay_there_before(self, numbered, tmp_path):
        source = numbered(30)
        (tmp_path / "0029.bin").write_bytes(b"short")
        session = ScriptedSession(2, mean_scores)
        run(session, source)
        assert session.batches[-1][1].max() == 0

    def test_each_failure_is_counted_once_in_the_stage_where_it_happened(self, mixed):
        _, pipeline = run(null_session(4), mixed)
        assert {stage.name: stage.failures for stage in pipeline.stages} == {
            "read": 1,
            "decode": 3,
            "batch": 0,
            "infer": 0,
            "post": 0,
        }

    def test_every_image_bad(self, tmp_path):
        source = Source("gone", tuple(Sample(f"{n}.png", tmp_path / f"{n}.png") for n in range(5)))
        predictions, pipeline = run(null_session(2), source)
        assert len(predictions) == len(pipeline.bad_images) == 5

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("4.png", "cannot be read: No such file or directory"), ("5.png", "is not an image that Pillow can read .*")],
    )
    def test_failing_the_run_names_the_file_and_the_way_out(self, mixed, tmp_path, name, reason):
        source = Source("one", tuple(sample for sample in mixed if sample.key in ("0.png", name)))
        expected = f"^{tmp_path}/{name}: {reason}; --on-bad-image count lists such images and goes on$"
        with pytest.raises(DataError, match=expected):
            run(null_session(1), source, count_bad_images=False)

    def test_failing_the_run_stops_it_early(self, numbered, tmp_path):
        source = numbered(300)
        (tmp_path / "0002.bin").write_bytes(b"short")
        session = ScriptedSession(1, mean_scores)
        with pytest.raises(DataError, match=r"0002\.bin: holds 5 bytes; preprocessed float32 3x4x4 has 192; --on-bad"):
            run(session, source, count_bad_images=False)
        assert len(session.batches) < 300


class TestScoresThatAreNotFinite:
    REASON = "the model answered with scores that are not finite (NaN or infinity)"

    def test_a_nan_batch_is_listed_image_by_image(self, numbered, monkeypatch):
        monkeypatch.setenv(FAULT, "infer-nan:2")
        predictions, pipeline = run(null_session(3), numbered(8), decoders=1)  # one decoder: batches come in order
        assert [(bad.key, bad.reason) for bad in pipeline.bad_images] == [
            (f"000{number}.bin", self.REASON) for number in (3, 4, 5)
        ]
        assert [prediction.error for prediction in predictions] == [None] * 3 + [self.REASON] * 3 + [None] * 2
        assert {stage.name: stage.failures for stage in pipeline.stages}["post"] == 3

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_one_value_of_one_image_is_enough(self, numbered, value):
        def answer(batch: np.ndarray) -> np.ndarray:
            scores = mean_scores(batch)
            scores[1, 3] = value
            return scores

        predictions, _ = run(ScriptedSession(2, answer), numbered(2), keep_scores=True)
        assert [prediction.error for prediction in predictions] == [None, self.REASON]
        assert predictions[1].scores is None

    def test_an_unreadable_image_keeps_its_own_reason(self, numbered, tmp_path):
        source = numbered(2)
        (tmp_path / "0001.bin").write_bytes(b"short")
        session = ScriptedSession(2, lambda batch: np.full((2, CLASSES), np.nan, dtype=np.float32))
        _, pipeline = run(session, source)
        assert [bad.reason[:5] for bad in pipeline.bad_images] == ["the m", "holds"]
        assert {stage.name: stage.failures for stage in pipeline.stages}["post"] == 1


class TestFailingEngine:
    @pytest.mark.parametrize("number", [1, 3, 8])
    def test_its_error_ends_the_run(self, numbered, monkeypatch, number):
        monkeypatch.setenv(FAULT, f"infer-raise:{number}")
        before, predictions = set(threading.enumerate()), []
        pipeline = Pipeline(null_session(2), DECODER, PipelineOptions(decoders=4, readers=2))
        with pytest.raises(InferenceError, match="tiny: the null engine failed"):
            predictions.extend(pipeline.run(numbered(200)))
        assert not workers_alive(before), "no thread may be left when the error arrives"

    def test_what_came_before_was_right(self, numbered):
        found = []
        pipeline = Pipeline(ScriptedSession(1, fail_from_third), DECODER, PipelineOptions(keep_scores=True))
        with pytest.raises(InferenceError, match=r"^the device fell over$"):
            found.extend(pipeline.run(numbered(50)))
        assert [prediction.sample.key for prediction in found] == ["0000.bin", "0001.bin"][: len(found)]
        assert [round(float(prediction.scores[0]) * 10) for prediction in found] == [1, 2][: len(found)]

    @pytest.mark.parametrize("slots", [1, 2, 4])
    def test_repeatedly_whatever_the_timing(self, numbered, slots):
        source = numbered(40)
        for _ in range(30):
            with pytest.raises(InferenceError, match="fell over"):
                run(ScriptedSession(1, fail_from_third, slots), source, decoders=3)

    def test_an_error_while_the_caller_still_holds_earlier_batches(self, numbered):
        """The engine fails while batch 0 is in the caller's hands and batch 1 waits, scored, to be taken.

        Batch 0 is held back until batch 1 has been scored; batch 2 fails once the caller has batch 0.
        """
        second_scored, caller_has_first = threading.Event(), threading.Event()

        def answer(batch: np.ndarray) -> np.ndarray:
            number = round(float(batch.max()) * 10)
            if number == 1:
                assert second_scored.wait(PATIENCE)
            elif number == 3:
                second_scored.set()
                assert caller_has_first.wait(PATIENCE)
                raise InferenceError("the device fell over")
            return mean_scores(batch)

        before = set(threading.enumerate())
        stream = Pipeline(ScriptedSession(1, answer, slots=2), DECODER, PipelineOptions()).run(numbered(30))
        assert next(stream).sample.key == "0000.bin"
        caller_has_first.set()
        wait_until(lambda: not workers_alive(before))
        with pytest.raises(InferenceError, match="the device fell over"):
            list(stream)

    def test_a_bug_in_an_engine_is_not_hidden(self, numbered):
        def answer(batch: np.ndarray) -> np.ndarray:
            raise ZeroDivisionError("a bug")

        with pytest.raises(ZeroDivisionError, match="a bug"):
            run(ScriptedSession(2, answer, slots=2), numbered(20))

    def test_a_decoder_of_another_size_is_an_error_and_not_a_hang(self, numbered):
        other = Decoder(Preprocess(input_size=(3, 5, 5)))
        pipeline = Pipeline(null_session(2), other, PipelineOptions())
        with pytest.raises(Exception, match=r".+"):
            list(pipeline.run(Source("x", (Sample("x.png", _png(numbered)),))))


def _png(numbered: Callable[[int], Source]) -> Path:
    path = numbered(1).samples[0].origin.with_name("x.png")
    Image.new("RGB", (8, 8)).save(path)
    return path


class TestAbandoned:
    @pytest.mark.parametrize("taken", [0, 1, 5])
    def test_closing_the_generator_early_ends_every_thread(self, numbered, taken):
        before = set(threading.enumerate())
        stream = Pipeline(null_session(2, slots=2), DECODER, PipelineOptions(decoders=3, readers=2)).run(numbered(200))
        for _ in range(taken):
            next(stream)
        stream.close()
        assert not workers_alive(before)

    def test_letting_go_of_the_generator_is_enough(self, numbered):
        before = set(threading.enumerate())
        for prediction in Pipeline(null_session(2), DECODER, PipelineOptions()).run(numbered(200)):
            assert prediction.error is None
            break
        wait_until(lambda: not workers_alive(before))

    def test_an_error_of_the_callers_own_ends_every_thread(self, numbered):
        before = set(threading.enumerate())
        stream = Pipeline(null_session(1), DECODER, PipelineOptions()).run(numbered(100))
        next(stream)
        with pytest.raises(KeyboardInterrupt):
            stream.throw(KeyboardInterrupt)
        assert not workers_alive(before)

    def test_a_caller_who_does_not_take_results_stops_the_reading(self, numbered):
        """Memory is bounded whatever stage is slow: here the caller."""

        class Counted(tuple):
            taken = 0

            def __iter__(self) -> Iterator[Sample]:
                for sample in tuple.__iter__(self):
                    Counted.taken += 1
                    yield sample

        source = Source("counted", Counted(numbered(400).samples))
        stream = Pipeline(null_session(2, slots=2), DECODER, PipelineOptions(decoders=2)).run(source)
        next(stream)
        seen = -1
        while seen != Counted.taken:  # until the stages have come to rest
            seen = Counted.taken
            time.sleep(0.1)
        assert seen < 100
        assert 1 + len(list(stream)) == 400


class TestStatistics:
    @pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (1, 4), (30, 4), (32, 4), (7, 64)])
    def test_items_images_and_workers(self, numbered, count, batch_size):
        _, pipeline = run(null_session(batch_size, slots=2), numbered(count), decoders=3, readers=2)
        batches = -(-count // batch_size)
        assert [(stage.name, stage.workers, stage.items, stage.images) for stage in pipeline.stages] == [
            ("read", 2, count, count),
            ("decode", 3, count, count),
            ("batch", 3, batches, count),
            ("infer", 2, batches, count),
            ("post", 1, batches, count),
        ]

    def test_times_fit_into_the_time_that_passed(self, numbered):
        start = time.perf_counter()
        _, pipeline = run(null_session(4, slots=2), numbered(60), decoders=3)
        wall = time.perf_counter() - start
        assert 0 < pipeline.interface.busy_s <= wall
        assert 0 < pipeline.wall_s <= wall
        for stage in pipeline.stages:
            assert min(stage.busy_s, stage.blocked_get_s, stage.blocked_put_s) >= 0
            assert stage.busy_s > 0
            assert stage.busy_s + stage.blocked_get_s + stage.blocked_put_s <= stage.workers * wall
            assert stage.wall_s == pipeline.wall_s

    def test_overlapping_batches_do_not_count_the_interface_twice(self, numbered):
        """Two calls that overlap from end to end: their sum is in the stage, the time that passed in the interface."""
        together = threading.Barrier(2)

        def answer(batch: np.ndarray) -> np.ndarray:
            together.wait(PATIENCE)
            time.sleep(0.05)
            together.wait(PATIENCE)
            return mean_scores(batch)

        _, pipeline = run(ScriptedSession(1, answer, slots=2), numbered(8))
        infer = {stage.name: stage for stage in pipeline.stages}["infer"]
        assert pipeline.interface.busy_s < 0.75 * infer.busy_s
        assert pipeline.interface.throughput == pytest.approx(8 / pipeline.interface.busy_s)

    def test_the_interface_covers_every_moment_in_which_a_batch_ran(self, numbered):
        """Batches overlap in part: each second one begins while the one before it runs."""
        spans, lock = [], threading.Lock()

        def answer(batch: np.ndarray) -> np.ndarray:
            start = time.perf_counter()
            time.sleep(0.003 + 0.004 * (round(float(batch.max()) * 10) % 3))
            with lock:
                spans.append((start, time.perf_counter()))
            return mean_scores(batch)

        _, pipeline = run(ScriptedSession(1, answer, slots=3), numbered(30), decoders=3)
        covered, until = 0.0, 0.0
        for start, end in sorted(spans):
            covered += max(0.0, end - max(start, until))
            until = max(until, end)
        assert covered <= pipeline.interface.busy_s

    def test_a_slow_caller_is_not_the_engines_fault(self, numbered):
        stream = (pipeline := Pipeline(null_session(1), DECODER, PipelineOptions())).run(numbered(20))
        for _ in stream:
            time.sleep(0.005)
        post = {stage.name: stage for stage in pipeline.stages}["post"]
        assert post.blocked_put_s >= 20 * 0.005
        assert post.busy_s < post.blocked_put_s
