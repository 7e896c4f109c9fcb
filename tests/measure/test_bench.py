"""Pure inference: exactly so many batches, warmup apart, figures of the model that was asked for."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from click.testing import CliRunner

from modelport.cli import cli
from modelport.engines.null import FAULT
from modelport.engines.session import Session, SessionOptions
from modelport.errors import FormatError, InferenceError
from modelport.host import environment
from modelport.measure import bench as module
from modelport.measure.bench import LEAST_ROUNDS, MOST_ROUNDS, bench, run_rounds
from modelport.offline import TensorSpec
from modelport.results import BenchResult


def test_rounds_and_warmup_are_kept_apart(compiled):
    result = bench(compiled("null", 4), rounds=7, warmup=3)

    assert (result.rounds, len(result.latencies_s)) == (7, 7)
    assert (result.warmup, len(result.warmup_s)) == (3, 3)
    assert all(latency > 0 for latency in result.latencies_s + result.warmup_s)
    assert result.wall_s >= sum(result.latencies_s)
    assert result.throughput == pytest.approx(7 * 4 / result.wall_s)


def test_the_result_says_what_ran_and_where(compiled):
    model = compiled("null", 4)

    result = bench(model, rounds=1, warmup=0, options=SessionOptions(threads=2))

    assert (result.engine, result.engine_version) == ("null", model.manifest.engine.version)
    assert (result.precision, result.executed_precision) == ("f32", "f32")
    assert (result.batch_size, result.streams, result.threads) == (4, 1, 2)
    assert result.warmup_s == ()
    assert result.environment == environment()


def test_a_directory_or_its_name_will_do(compiled):
    path = compiled("null").path

    assert bench(path, rounds=1, warmup=0).rounds == bench(str(path), rounds=1, warmup=0).rounds == 1


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_real_engine_is_measured(compiled, engine, tmp_path):
    result = bench(compiled(engine, 4), rounds=3, warmup=1)

    assert (result.engine, result.rounds, result.warmup) == (engine, 3, 1)
    result.write(tmp_path / "bench.json")
    assert BenchResult.read(tmp_path / "bench.json") == result


def test_warmup_and_rounds_are_all_the_batches_that_run(compiled, monkeypatch):
    model = compiled("null")

    monkeypatch.setenv(FAULT, "infer-raise:6")
    bench(model, rounds=3, warmup=2)

    monkeypatch.setenv(FAULT, "infer-raise:5")
    with pytest.raises(InferenceError, match="the null engine failed"):
        bench(model, rounds=3, warmup=2)


def test_progress_counts_the_rounds(compiled):
    seen = []

    bench(compiled("null"), rounds=3, warmup=2, progress=lambda *told: seen.append(told))

    assert seen == [("bench null f32 batch 1", done, 3) for done in (1, 2, 3)]


class TestAsManyAsASecondTakes:
    """Where nobody says how many rounds; by a clock that moves only while a batch is inferred."""

    @pytest.fixture
    def measured(self, compiled, monkeypatch):
        def measure(batch_s, **more):
            now = [0.0]

            def infer(self, batch):
                now[0] += batch_s
                return np.zeros((1, 3), np.float32)

            monkeypatch.setattr(module, "perf_counter", lambda: now[0])
            monkeypatch.setattr(Session, "infer", infer)
            return bench(compiled("null"), warmup=1, **more)

        return measure

    @pytest.mark.parametrize(
        ("batch_s", "rounds"), [(1 / 128, 128), (1 / 64, 64), (0.5, LEAST_ROUNDS), (1e-5, MOST_ROUNDS)]
    )
    def test_it_goes_on_for_a_second_within_its_bounds(self, measured, batch_s, rounds):
        result = measured(batch_s)
        assert result.rounds == rounds
        assert result.wall_s == pytest.approx(rounds * batch_s)

    @pytest.mark.parametrize("batch_s", [1 / 128, 0.5, 1e-5])
    def test_progress_ends_at_its_total(self, measured, batch_s):
        seen = []
        result = measured(batch_s, progress=lambda *told: seen.append(told[1:]))
        assert all(done <= total <= MOST_ROUNDS for done, total in seen)
        assert seen[-1] == (result.rounds, result.rounds)

    def test_a_number_is_that_number(self, measured):
        assert measured(1e-5, rounds=7).rounds == 7

    def test_the_command_says_so(self):
        told = " ".join(CliRunner().invoke(cli, ["bench", "--help"]).output.split())
        assert f"as many as a second takes, at least {LEAST_ROUNDS} and at most {MOST_ROUNDS}" in told


@pytest.mark.parametrize(("rounds", "warmup"), [(0, 1), (-1, 0), (1, -1)])
def test_impossible_counts_are_refused(compiled, rounds, warmup):
    with pytest.raises(
        ValueError, match=rf"rounds must be at least 1 and warmup at least 0, got {rounds} and {warmup}"
    ):
        bench(compiled("null"), rounds=rounds, warmup=warmup)


class MeetingSession(Session):
    """Answers only when two batches are being run at once."""

    def __init__(self):
        image, scores = (
            TensorSpec(name=n, dtype="float32", shape=s, layout="") for n, s in (("i", (1, 2)), ("s", (1, 3)))
        )
        super().__init__("meeting", (image, scores), 2)
        self._meeting = threading.Barrier(2, timeout=20)

    def _infer(self, batch):
        self._meeting.wait()
        return np.zeros((1, 3), np.float32)


def test_streams_run_rounds_at_once():
    latencies, _ = run_rounds(MeetingSession(), np.zeros((1, 2), np.float32), 6, lambda done, total: None)
    assert len(latencies) == 6


def test_streams_are_stated(compiled):
    result = bench(compiled("onnxruntime", 4), rounds=7, warmup=4, options=SessionOptions(streams=2))
    assert (result.streams, result.rounds, result.warmup) == (2, 7, 4)


def test_what_is_no_offline_model_is_refused(tmp_path):
    with pytest.raises(FormatError, match="is not an offline model"):
        bench(tmp_path)
