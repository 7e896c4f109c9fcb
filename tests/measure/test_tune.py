"""Tuning: the choice from hand-made figures, and the whole road from an ONNX file to a recipe that runs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import csp
import models
import numpy as np
import pytest
from PIL import Image

from modelport.engines.null import FAULT
from modelport.errors import DataError, FormatError, InferenceError
from modelport.inference import infer
from modelport.job import run
from modelport.measure.choose import choose, explain_miss, meets, pareto_front, parse_goal, settle_front
from modelport.measure.sweep import SweepSpace
from modelport.measure.tune import TuneOptions, tune
from modelport.recipe import Recipe
from modelport.report.search import accuracy_table, front_table, render_tune_html, tune_verdict
from modelport.results import Configuration, Goal, Measured, SweepSettings, Trial, TuneResult

MODELPORT = Path(sys.executable).with_name("modelport")
QUICK = SweepSettings(seconds=0.1, warmup=0, trial_timeout_s=30)
BOTH = SweepSpace(engines=("null", "onnxruntime"), batch_sizes=(2,), repeats=1)


def made(engine: str, batch: int, speed: float, milliseconds: float) -> Measured:
    """A configuration that does so many images a second, each batch in the same time."""
    configuration = Configuration(engine=engine, precision="f32", batch_size=batch)
    latencies = (milliseconds / 1e3,) * 10
    trial = Trial(configuration=configuration, repeat=1, outcome="ok", latencies_s=latencies, wall_s=10 * batch / speed)
    return Measured.of([trial])


def brief(found: list[Measured]) -> list[tuple[str, int]]:
    return [(item.configuration.engine, item.configuration.batch_size) for item in found]


FAST = [made("a", 1, 100, 10), made("a", 8, 200, 40), made("a", 16, 190, 84)]
SAFE = [made("b", 1, 50, 20), made("b", 8, 90, 30), made("b", 16, 120, 130)]


@pytest.mark.parametrize(
    ("measured", "front"),
    [
        ([], []),
        (FAST, [("a", 8), ("a", 1)]),
        (SAFE, [("b", 16), ("b", 8), ("b", 1)]),
        (FAST + SAFE, [("a", 8), ("a", 1)]),
        ([made("a", 1, 100, 10), made("b", 1, 100, 10)], [("a", 1)]),
        ([made("a", 1, 100, 12), made("b", 1, 100, 10)], [("b", 1)]),
    ],
)
def test_the_front_holds_what_nothing_beats_in_both(measured, front):
    assert brief(pareto_front(measured)) == front
    assert brief(pareto_front(measured[::-1])) in (front, [("b", 1)] if len(measured) == 2 else front)


def test_what_loses_too_much_leaves_the_front_and_hides_nothing():
    asked = []

    def loss(configuration):
        asked.append(configuration.engine)
        return {"a": 2.0, "b": 0.5}[configuration.engine]

    assert brief(settle_front(FAST + SAFE, loss, 0.5)) == [("b", 16), ("b", 8), ("b", 1)]
    assert settle_front(FAST + SAFE, loss, 0.4) == []
    assert settle_front(FAST, lambda configuration: None, 100) == []


def test_accuracy_is_asked_only_of_what_could_win():
    asked = set()
    settle_front(FAST + SAFE, lambda configuration: asked.add(configuration.engine) or 0.0, 1)
    assert asked == {"a"}


@pytest.mark.parametrize(
    ("goal", "winner"),
    [
        ("throughput", ("b", 16)),
        ("latency:130", ("b", 16)),
        ("latency:129", ("b", 8)),
        ("latency<=30", ("b", 8)),
        ("latency:20", ("b", 1)),
        ("latency:19.9", None),
    ],
)
def test_the_winner_is_the_fastest_within_the_goal(goal, winner):
    chosen = choose(pareto_front(SAFE), parse_goal(goal))
    assert (chosen and (chosen.engine, chosen.batch_size)) == winner


@pytest.mark.parametrize("text", ["", "speed", "latency", "latency:", "latency:-1", "latency:inf", "throughput:9"])
def test_other_goals_are_refused(text):
    with pytest.raises(ValueError, match="expected throughput, or latency:MS such as latency:20"):
        parse_goal(text)


def test_the_floor_is_met_exactly():
    assert meets(0.5, 0.5)
    assert meets(100 * (0.987 - 0.982), 0.5)
    assert not meets(0.51, 0.5)
    assert not meets(None, 100)


def test_what_comes_closest_is_said():
    losses = {"a-f32": 3.25, "b-f32": 1.5, "c-f32": None}
    assert explain_miss([], Goal(), losses, 0.5, "points") == (
        "no configuration loses at most 0.5 points; the closest is b-f32, which loses 1.50, 1.00 too many"
    )
    assert explain_miss(pareto_front(SAFE), Goal(latency_ms=12), losses, 0.5, "points") == (
        "no configuration that loses at most 0.5 points has a p90 latency of 12 ms or less; the closest is b-f32, batch 1: "
        "20.00 ms, 8.00 ms too slow"
    )
    assert "could classify the images" in explain_miss([], Goal(), {"c-f32": None}, 0.5, "points")


# -- the whole road


@pytest.fixture(autouse=True)
def logged(caplog):
    logger = logging.getLogger("modelport")
    logger.propagate = True
    caplog.set_level(logging.INFO, "modelport")
    return caplog


@pytest.fixture(scope="module")
def folder(tmp_path_factory, csp_model) -> Path:
    """A network in which ONNX Runtime has thirty times the null engine's work, and pictures with its decisions as labels."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "images").mkdir()
    rng = np.random.default_rng(3)
    for number in range(8):
        base = np.zeros((20, 20, 3)) + rng.integers(0, 256, 3)
        pixels = np.clip(base + rng.normal(0, 20 * number, (20, 20, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    infer(csp_model("onnxruntime"), folder / "images", folder / "out")
    from modelport.data.predictions import Predictions

    found = Predictions.read(folder / "out" / "predictions.parquet")
    lines = [f"{key} {top}\n" for key, top in zip(found.keys, found.top[:, 0], strict=True)]
    (folder / "labels.txt").write_text("".join(lines))
    csp.save(folder / "csp.onnx")
    return folder


@pytest.fixture(scope="module")
def tuned(folder) -> tuple[TuneResult, Path]:
    options = TuneOptions(max_drop_points=0.5, labels=folder / "labels.txt", sweep=QUICK)
    return tune(folder / "csp.onnx", folder / "images", folder / "tuned", BOTH, options=options), folder / "tuned"


def test_the_fastest_that_keeps_its_accuracy_wins(tuned):
    result, out = tuned
    speeds = {found.configuration.engine: found.throughput for found in result.sweep.ran}
    assert speeds["null"] > speeds["onnxruntime"]
    assert result.reference == "onnxruntime-f32"
    assert result.reference_accuracy.topn[0] == 1
    assert {found.variant: found.passed for found in result.accuracies} == {"null-f32": False, "onnxruntime-f32": True}
    assert result.winner.engine == "onnxruntime"
    assert result.front == (result.winner,)
    assert TuneResult.read(out / "tune.json") == result


def test_the_recipe_of_the_winner_loads_and_runs(tuned, tmp_path):
    result, out = tuned
    recipe = Recipe.load(out / "tuned.yaml")
    assert (recipe.targets[0].engine, recipe.accuracy.batch_size) == ("onnxruntime", 2)
    assert recipe.accuracy.tolerance_points == 0.5

    report = run(out / "tuned.yaml", tmp_path / "run", overrides={"performance.rounds": 2})

    assert report.passed
    assert [bench.batch_size for bench in report.targets[0].performance] == [2]
    assert report.targets[0].accuracy == result.accuracies[-1].accuracy


def test_streams_and_threads_of_a_recipe_are_used(tuned, tmp_path):
    _, out = tuned
    text = (out / "tuned.yaml").read_text().replace("streams: 1", "streams: 2\n  threads: 2")
    (tmp_path / "more.yaml").write_text(text)
    target = run(tmp_path / "more.yaml", tmp_path / "run", overrides={"performance.rounds": 2}).targets[0]
    assert (target.performance[0].streams, target.performance[0].threads) == (2, 2)
    assert (target.inference.streams, target.inference.threads) == (2, 2)


def test_the_report_shows_front_accuracy_and_choice(tuned):
    result, _ = tuned
    assert [row[0] for row in front_table(result).rows] == ["onnxruntime-f32"]
    assert front_table(result).rows[0][-1] == "chosen"
    states = {row[0]: row[-1] for row in accuracy_table(result).rows}
    assert states["null-f32"] == "FAILED"
    assert states["onnxruntime-f32"] == "passed"
    assert tune_verdict(result).startswith("FOUND: onnxruntime-f32, batch 2: ")
    page = render_tune_html(result)
    assert "chart-tradeoff" in page
    assert "http-equiv" not in page
    assert page.count("<table>") == 3


def test_tuning_again_measures_nothing_anew(folder, logged):
    options = TuneOptions(goal=Goal(latency_ms=1e-6), max_drop_points=0.5, labels=folder / "labels.txt", sweep=QUICK)
    result = tune(folder / "csp.onnx", folder / "images", folder / "again", BOTH, options=options)
    lines = (folder / "again" / "trials.jsonl").read_text()
    logged.clear()
    result = tune(folder / "csp.onnx", folder / "images", folder / "again", BOTH, options=options)
    assert (folder / "again" / "trials.jsonl").read_text() == lines
    assert "accuracy onnxruntime-f32: unchanged, kept" in logged.text
    assert result.winner is None
    assert "has a p90 latency of 1e-06 ms or less; the closest is onnxruntime-f32, batch 2: " in result.problem
    assert not (folder / "again" / "tuned.yaml").exists()


def test_a_floor_that_nothing_meets_names_the_closest_and_ends_with_3(folder):
    line = [MODELPORT, "tune", folder / "csp.onnx", "--images", folder / "images", "--engines", "null", "--precisions", "f32",
            "--batch-sizes", "2", "--repeats", "1", "--seconds", "0.02", "--max-drop", "0.5", "-o", folder / "none"]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "NOTHING FOUND: no configuration loses at most 0.5 % of decisions; the closest is null-f32" in done.stdout
    assert (folder / "none" / "tune.html").exists()
    assert not (folder / "none" / "tuned.yaml").exists()
    result = json.loads((folder / "none" / "tune.json").read_text())
    assert (result["labelled"], result["winner"]) == (False, None)
    assert result["accuracies"][0]["loss_points"] > 0.5


def test_a_real_data_run_that_dies_takes_no_part(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(FAULT, "infer-signal:4")
    space = SweepSpace(engines=("null", "onnxruntime"), batch_sizes=(1,), repeats=1)
    monkeypatch.setattr("modelport.measure.sweep.run_trial", lambda model, configuration, repeat, settings: Trial(
        configuration=configuration, repeat=repeat, outcome="ok", latencies_s=(0.1,), wall_s=0.1
    ))  # fmt: skip
    result = tune(folder / "csp.onnx", folder / "images", tmp_path / "out", space)
    null = next(found for found in result.accuracies if found.variant == "null-f32")
    assert null.problem == "crashed: died (SIGSEGV): it printed nothing"
    assert result.winner.engine == "onnxruntime"


def test_images_and_model_are_checked_before_any_work(folder, tmp_path):
    with pytest.raises(DataError):
        tune(folder / "csp.onnx", tmp_path / "nowhere", tmp_path / "out", BOTH)
    with pytest.raises(FormatError, match="carries no preprocessing"):
        tune(
            models.save(models.classifier(spec=None), tmp_path / "any.onnx"), folder / "images", tmp_path / "out", BOTH
        )
    assert not (tmp_path / "out").exists()


def test_nothing_that_runs_is_an_error(folder, tmp_path):
    space = SweepSpace(engines=("null",), precisions=("bf16",), batch_sizes=(1,), repeats=1)
    with pytest.raises(
        InferenceError, match=r"none of the 1 configurations ran; the first, null-bf16, batch 1: refused: "
    ):
        tune(folder / "csp.onnx", folder / "images", tmp_path / "out", space)
