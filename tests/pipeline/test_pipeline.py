"""The pipeline: order, slots, padding, and statistics that add up."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from pipelines import (
    CLASSES,
    DECODER,
    PATIENCE,
    ScriptedSession,
    mean_scores,
    null_session,
    run,
)

from modelport.data.source import Source
from modelport.pipeline import Pipeline, PipelineOptions

pytestmark = pytest.mark.timeout(120)


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
