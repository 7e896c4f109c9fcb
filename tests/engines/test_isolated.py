"""An engine in a process of its own: the same scores; deaths and hangs cost the image that causes them and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import models
import numpy as np
import psutil
import pytest

from modelport import engines
from modelport.engines.null import FAULT
from modelport.engines.session import Isolation, Session, SessionOptions
from modelport.errors import EngineDiedError, FormatError, InferenceError
from modelport.offline import OfflineModel

BATCH = 8
KILLER = 5.0  # an image of this value, among images whose mean is about 0
ABOVE = ">3"


@pytest.fixture
def model(compiled) -> OfflineModel:
    return compiled("null", BATCH)


def isolated(model: OfflineModel, streams: int = 1, **isolation: float) -> Session:
    return engines.open_model(model, SessionOptions(streams=streams, isolation=Isolation(**isolation)))


def batch_with(*killers: int) -> np.ndarray:
    batch = models.images(BATCH)
    batch[list(killers)] = KILLER
    return batch


def children() -> set[int]:
    """Processes that this test has started; a Ray cluster of other tests has some, too."""
    return {child.pid for child in psutil.Process().children(recursive=True)} - _others


@pytest.fixture(autouse=True)
def _look_who_is_there() -> None:
    _others.clear()
    _others.update(child.pid for child in psutil.Process().children(recursive=True))


_others: set[int] = set()


@pytest.mark.parametrize("engine", ["null", "onnxruntime", "openvino"])
def test_scores_are_the_same_to_the_bit(engine, compiled):
    batches = [models.images(BATCH, seed) for seed in range(6)]
    model = compiled(engine, BATCH)
    with engines.open_model(model, SessionOptions(streams=2)) as session:
        expected = [session.infer(batch) for batch in batches]
        on_cores = session.on_cores

    with isolated(model, streams=2) as session:
        assert (session.restarts, session.on_cores, session.slots) == (0, on_cores, 2)
        with ThreadPoolExecutor(2) as pool:
            for scores, wanted in zip(pool.map(session.infer, batches), expected, strict=True):
                np.testing.assert_array_equal(scores, wanted)
        assert session.cpu_elsewhere_s > 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_each_of_several_devices_has_a_process_on_its_own_cores(model, monkeypatch):
    options = SessionOptions(devices=(0, 1), isolation=Isolation())
    monkeypatch.setenv(FAULT, f"infer-signal:{ABOVE}")
    before = children()
    with engines.open_model(model, options) as session:
        first, second = (set(psutil.Process(pid).cpu_affinity()) for pid in children() - before)
        assert {frozenset(first), frozenset(second)} == {frozenset(s.cores) for s in session.by_device.values()}
        _, failed = session.infer_rows(batch_with(3), range(BATCH))
        assert list(failed) == [3]
        assert session.restarts == max(
            device.restarts for device in session.by_device.values()
        )  # only one of them died
        scores, failed = session.infer_rows(models.images(BATCH), range(BATCH))
        assert not failed
        np.testing.assert_allclose(scores, models.null_scores(models.images(BATCH)), rtol=1e-5)
    assert children() <= before


def test_ascend_runs_isolated_as_well(ascend, compiled):
    ascend("ais_bench")
    batch = models.images(1)
    with isolated(compiled("ascend")) as session:
        np.testing.assert_allclose(session.infer(batch), models.expected_scores(batch), rtol=0, atol=1e-2)


def test_a_death_of_a_device_process_is_a_death(ascend, compiled, monkeypatch):
    ascend("aclruntime")
    model = compiled("ascend")
    monkeypatch.setenv("STANDIN_CRASH", "1")
    with isolated(model, restarts=1) as session, pytest.raises(EngineDiedError, match="process for device 0 died"):
        session.infer(models.images(1))


def test_a_death_is_made_good(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(FAULT, f"infer-signal:3@{tmp_path / 'count'}")
    with isolated(model) as session:
        for seed in range(6):
            batch = models.images(BATCH, seed)
            np.testing.assert_allclose(session.infer(batch), models.null_scores(batch), atol=1e-5)
        assert session.restarts == 1
    assert f"{model.path}: the engine died (SIGSEGV): it printed nothing; starting it again (1 of 64)" in caplog.text


@pytest.mark.parametrize("fault", ["signal", "hang"])
def test_batches_beside_one_that_ends_the_engine_are_not_accused(model, tmp_path, monkeypatch, fault):
    monkeypatch.setenv(FAULT, f"infer-{fault}:10@{tmp_path / 'count'}")
    batches = [models.images(BATCH, seed) for seed in range(40)]
    with isolated(model, streams=4, batch_timeout=2) as session, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda batch: session.infer_rows(batch, range(BATCH)), batches))
        assert session.restarts == 1
    for batch, (scores, failed) in zip(batches, answers, strict=True):
        assert not failed
        np.testing.assert_allclose(scores, models.null_scores(batch), atol=1e-5)


@pytest.mark.parametrize("killers", [(3,), (2, 3), (0, 7)])
def test_an_image_that_kills_the_engine_is_found(model, monkeypatch, killers):
    batch = batch_with(*killers)
    with engines.open_model(model) as session:
        expected = session.infer(batch)
    monkeypatch.setenv(FAULT, f"infer-signal:{ABOVE}")
    with isolated(model) as session:
        scores, failed = session.infer_rows(batch, range(BATCH))
        assert failed == dict.fromkeys(killers, "the engine dies on it (SIGSEGV)")
        assert session.restarts is not None
        assert session.restarts <= 6 * len(killers)  # together, alone, three halvings, and once more to be sure
    well = [row for row in range(BATCH) if row not in killers]
    np.testing.assert_array_equal(scores[well], expected[well])


def test_two_killers_in_flight_at_once_are_both_found(model, monkeypatch):
    monkeypatch.setenv(FAULT, f"infer-signal:{ABOVE}")
    batches = [models.images(BATCH, seed) for seed in range(8)]
    batches[2][1] = batches[3][6] = KILLER
    with isolated(model, streams=4) as session, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda batch: session.infer_rows(batch, range(BATCH))[1], batches))
    assert [sorted(failed) for failed in answers] == [[], [], [1], [6], [], [], [], []]


def test_an_image_that_hangs_the_engine_is_found(compiled, monkeypatch):
    monkeypatch.setenv(FAULT, f"infer-hang:{ABOVE}")
    with isolated(compiled("null", 2), batch_timeout=1) as session:
        assert session.infer_rows(batch_with(1)[:2], range(2))[1] == {1: "the engine hangs on it"}
        assert not session.infer_rows(batch_with()[:2], range(2))[1]


def test_rows_without_an_image_are_never_blamed(model, monkeypatch):
    monkeypatch.setenv(FAULT, f"infer-signal:{ABOVE}")
    with isolated(model) as session:
        assert session.infer_rows(batch_with(6, 7), range(6))[1] == {}
        assert session.infer_rows(batch_with(6, 7), [])[1] == {}


def test_who_asks_for_scores_alone_gets_an_error(model, monkeypatch):
    monkeypatch.setenv(FAULT, f"infer-signal:{ABOVE}")
    with isolated(model) as session:
        with pytest.raises(EngineDiedError, match=r"image 4 of the batch: the engine dies on it \(SIGSEGV\)"):
            session.infer(batch_with(4))
        session.infer(batch_with())


def test_the_engine_is_started_again_a_bounded_number_of_times(model, monkeypatch):
    monkeypatch.setenv(FAULT, "infer-signal:1")
    with isolated(model, restarts=2) as session:
        for _ in range(2):
            with pytest.raises(
                EngineDiedError,
                match=r"the engine died \(SIGSEGV\): it printed nothing, after it was started again 2 times, the most in a run",
            ):
                session.infer(batch_with())
        assert session.restarts == 2


def test_an_engine_that_raises_says_what_it_says_without_isolation(model, monkeypatch):
    monkeypatch.setenv(FAULT, "infer-raise:2")
    told = []
    for opened in (engines.open_model(model), isolated(model)):
        with opened as session:
            session.infer(batch_with())
            with pytest.raises(InferenceError) as caught:
                session.infer(batch_with())
            told.append(str(caught.value))
            session.infer(batch_with())
    assert told[0] == told[1]


def test_a_death_while_opening_is_an_error(model, monkeypatch):
    monkeypatch.setenv(FAULT, "open-signal")
    with pytest.raises(EngineDiedError, match=r"the engine died \(SIGSEGV\): .* while it opened the model"):
        isolated(model)
    assert not children()


def test_a_model_that_was_changed_is_refused_as_without_isolation(model, copied):
    loaded = OfflineModel.load(copied("null"))
    (loaded.path / "null.txt").write_text("changed")
    with pytest.raises(FormatError, match=r"null\.txt: was changed since it was compiled"):
        isolated(loaded)


def test_closing_leaves_no_process(model):
    with isolated(model, streams=3) as session:
        session.infer(batch_with())
        assert children()
    assert not children()


def test_closing_ends_a_process_that_others_hang_in(model, monkeypatch):
    monkeypatch.setattr("modelport.engines.isolated_process._CLOSING_S", 0.2)
    monkeypatch.setenv(FAULT, "infer-hang:1")
    session = isolated(model, batch_timeout=1000)
    pool = ThreadPoolExecutor(1)
    answer = pool.submit(session.infer, batch_with())
    time.sleep(0.2)
    session.close()
    assert not children()
    assert isinstance(answer.exception(10), InferenceError)
    pool.shutdown()


PARENT = """
import sys, numpy as np, psutil
from modelport import engines
from modelport.engines.session import Isolation, SessionOptions
with engines.open_model(sys.argv[1], SessionOptions(isolation=Isolation())) as session:
    print(*(child.pid for child in psutil.Process().children()), flush=True)
    session.infer(np.zeros(session.input.shape, np.float32))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_parent_that_is_killed_leaves_no_orphan(model, number):
    environment = os.environ | {FAULT: "infer-hang:1"}
    command = [sys.executable, "-c", PARENT, str(model.path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    (pid,) = map(int, parent.stdout.readline().split())
    child = psutil.Process(pid)
    time.sleep(0.3)  # by now it hangs in a batch
    parent.send_signal(number)
    parent.communicate()
    with suppress(psutil.NoSuchProcess):
        child.wait(10)
    assert not psutil.pid_exists(pid) or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_timeout": 0}, "batch_timeout must be above 0 seconds, got 0"),
        ({"restarts": -1}, "restarts must be at least 0, got -1"),
    ],
)
def test_impossible_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Isolation(**wrong)


def test_operators_are_not_timed_in_isolation():
    with pytest.raises(ValueError, match="profile goes without isolation"):
        SessionOptions(profile=True, isolation=Isolation())


def test_nothing_lies_in_the_file_system(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with isolated(model) as session:
        session.infer(batch_with())
        assert not list(tmp_path.iterdir())
        assert not list(Path("/dev/shm").glob("*modelport*"))
