"""The pipeline: bad images, scores that are not finite, engines that fail, and callers that go away."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipelines import (
    CLASSES,
    DECODER,
    PATIENCE,
    ScriptedSession,
    fail_from_third,
    mean_scores,
    null_session,
    run,
    wait_until,
    workers_alive,
)

from modelport.data.decode import Decoder
from modelport.data.source import Sample, Source
from modelport.engines.null import FAULT
from modelport.errors import DataError, InferenceError
from modelport.pipeline import Pipeline, PipelineOptions
from modelport.spec import Preprocess

pytestmark = pytest.mark.timeout(120)


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
