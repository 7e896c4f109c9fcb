"""Two models in turn: both orders, the interval of the ratio, and what happens to a process that hangs."""

from __future__ import annotations

import models
import pytest
from rewritable import small, timing

from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.engines.null import FAULT
from modelport.errors import InferenceError
from modelport.measure import paired
from modelport.measure.paired import TurnOptions, time_in_turn
from modelport.offline import OfflineModel
from modelport.results.optimization import median_interval


@pytest.fixture
def model(tmp_path) -> OfflineModel:
    """The small classifier, compiled for the null engine."""
    source = models.save(small(), tmp_path / "small.onnx")
    return compile_model(source, tmp_path / "model", engine="null", options=CompileOptions())


def test_the_interval_is_between_values_of_the_sample():
    """By the sign test: of 12 values from the 3rd to the 10th (96.1 %), of 6 from the first to the last (96.9 %)."""
    assert median_interval(tuple(range(1, 13))) == (3, 10)
    assert median_interval(tuple(range(1, 7))) == (1, 6)
    assert median_interval((1.0,) * 5) == (0.0, float("inf"))
    assert timing(1.05, 0.01).text == "+5.0 % (95 %: +4.4 … +5.6)"
    assert (timing(1.0).busy, timing(1.0, busy=True).busy) == (False, True)


@pytest.mark.parametrize("wrong", [{"rounds": 5}, {"seconds": -1}, {"processes": 0}, {"processes": 13}])
def test_turns_that_prove_nothing(wrong):
    with pytest.raises(ValueError, match="must be"):
        TurnOptions(**wrong)


def test_both_orders_are_timed(model, monkeypatch):
    requests = []

    def ask(module: str, request: dict, timeout: float) -> dict:
        requests.append(request)
        return {"seconds": [[0.1] * request["rounds"], [0.2] * request["rounds"]], "hygiene": {"busy_before": 0.0}}

    monkeypatch.setattr(paired.child, "ask", ask)

    found = time_in_turn(model.path, model.path, TurnOptions(rounds=7, seconds=0.25, threads=1, processes=2))

    assert [
        (request["rounds"], request["swapped"], request["seconds"], request["threads"]) for request in requests
    ] == [
        (4, False, 0.25, 1),
        (3, True, 0.25, 1),
    ]
    assert (found.ratio, len(found.ratios), found.processes) == (0.5, 7, 2)


def test_a_candidate_that_hangs(model, monkeypatch):
    monkeypatch.setenv(FAULT, "infer-hang:2")

    with pytest.raises(
        InferenceError, match="timing it against its predecessor: the process not done after 2 s and ended"
    ):
        time_in_turn(model.path, model.path, TurnOptions(rounds=6, seconds=0, timeout_s=2))
