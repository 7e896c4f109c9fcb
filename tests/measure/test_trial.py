"""Trials in child processes: raw figures where they run, and an outcome with its reason where they do not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from modelport.engines.null import FAULT, NullSession
from modelport.graph import read_classifier
from modelport.measure.trial import LEAST_ROUNDS, MOST_ROUNDS, FailedWorkError, compile_apart, run_for, run_trial
from modelport.results import Configuration, SweepSettings, Trial

QUICK = SweepSettings(seconds=0.05, warmup=2, trial_timeout_s=30)


def of_null(**knobs) -> Configuration:
    return Configuration(**{"engine": "null", "precision": "f32", "batch_size": 4, **knobs})


def test_a_trial_has_raw_latencies_and_warmup_apart(compiled):
    trial = run_trial(compiled("null", 4).path, of_null(streams=2, threads=2), 3, QUICK)

    assert (trial.outcome, trial.reason, trial.repeat, trial.executed_precision) == ("ok", None, 3, "f32")
    assert len(trial.warmup_s) == 2
    assert len(trial.latencies_s) >= 2 * LEAST_ROUNDS
    assert trial.throughput == pytest.approx(len(trial.latencies_s) * 4 / trial.wall_s)
    assert trial.hygiene is not None
    assert Trial.model_validate_json(trial.model_dump_json()) == trial


def test_a_trial_of_a_real_engine(compiled):
    model = compiled("openvino", 4)
    trial = run_trial(model.path, of_null(engine="openvino", threads=1), 1, QUICK)
    assert (trial.outcome, trial.executed_precision) == ("ok", "f32")


@pytest.mark.parametrize(
    ("fault", "limit", "outcome", "reason"),
    [
        ("infer-signal:4", 30, "crashed", r"^died \(SIGSEGV\): it printed nothing$"),
        ("infer-raise:4", 30, "crashed", r"the null engine failed: MODELPORT_NULL_FAULT asked for it$"),
        ("infer-hang:4", 5, "timeout", r"^not done after 5 s and ended$"),
    ],
)
def test_what_goes_wrong_is_an_outcome(compiled, monkeypatch, fault, limit, outcome, reason):
    monkeypatch.setenv(FAULT, fault)
    settings = QUICK.model_copy(update={"trial_timeout_s": limit})

    trial = run_trial(compiled("null", 4).path, of_null(), 1, settings)

    assert trial.outcome == outcome
    assert re.search(reason, trial.reason), trial.reason
    assert (trial.latencies_s, trial.throughput) == ((), None)


def test_a_damaged_model_is_refused(copied):
    path = copied()
    (path / "null.txt").write_text("changed")
    trial = run_trial(path, of_null(), 1, QUICK)
    assert trial.outcome == "refused"
    assert "was changed since it was compiled" in trial.reason


@pytest.mark.parametrize(
    ("fault", "limit", "outcome", "reason"),
    [
        ("compile-signal", 30, "crashed", r"the null engine .*'s compiler died \(SIGSEGV\) at f32, batch 4"),
        ("compile-raise", 30, "refused", "asked for it"),
        ("compile-hang", 4, "timeout", "compiler was not done after 4 s and ended at f32, batch 4; allow it more time"),
    ],
)
def test_a_compilation_that_goes_wrong_is_an_outcome(tiny_onnx, tmp_path, monkeypatch, fault, limit, outcome, reason):
    monkeypatch.setenv(FAULT, fault)
    spec = read_classifier(tiny_onnx).spec

    with pytest.raises(FailedWorkError, match=reason) as caught:
        compile_apart(tiny_onnx, spec, of_null(), tmp_path / "model", limit)

    assert caught.value.outcome == outcome
    assert list(tmp_path.iterdir()) == []


def test_a_child_ends_with_its_parent(compiled):
    code = (
        "from pathlib import Path\n"
        "from modelport.measure.trial import run_trial\n"
        "from modelport.results import Configuration, SweepSettings\n"
        f"run_trial(Path({str(compiled('null', 4).path)!r}), Configuration(engine='null', precision='f32', batch_size=4),"
        "1, SweepSettings(trial_timeout_s=200))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, FAULT: "infer-hang:1"})
    child = None
    for _ in range(300):
        if (children := psutil.Process(parent.pid).children()) and children[0].num_threads() > 1:
            child = children[0]
            break
        time.sleep(0.1)
    assert child is not None
    time.sleep(2)  # until it hangs
    assert child.is_running()

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    _, alive = psutil.wait_procs([child], timeout=10)
    assert alive == []


def test_a_time_budget_is_never_less_than_a_few_rounds_nor_endless(compiled):
    with NullSession(compiled("null", 1), 1) as session:
        batch = np.zeros(session.input.shape, np.float32)
        assert len(run_for(session, batch, 1e-9)[0]) == LEAST_ROUNDS
        latencies, wall = run_for(session, batch, 3600)
    assert len(latencies) == MOST_ROUNDS
    assert sum(latencies) <= wall
