"""A sweep: every configuration and repeat exactly once, whatever fails, dies or is changed meanwhile."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import models
import pytest

from modelport.engines.null import FAULT
from modelport.errors import EngineUnavailableError, FormatError, OutputError
from modelport.measure import store
from modelport.measure import sweep as sweeping
from modelport.measure.journal import PREVIOUS_FILE, TRIALS_FILE, journal
from modelport.measure.sweep import SweepSpace, saturation, sweep
from modelport.results import Configuration, Measured, SweepResult, SweepSettings, Trial

MODELPORT = Path(sys.executable).with_name("modelport")
QUICK = SweepSettings(seconds=0.02, warmup=0, trial_timeout_s=30)
NULL = SweepSpace(engines=("null",), batch_sizes=(1, 2), repeats=2)


@pytest.fixture
def speeds(monkeypatch):
    """Trials without processes: their throughput by batch size, 100 images a second where nothing is said."""
    told: dict[int, float] = {}

    def run_trial(model, configuration, repeat, settings):
        size = configuration.batch_size
        took = size / told.get(size, 100.0)
        return Trial(
            configuration=configuration, repeat=repeat, outcome="ok", executed_precision="f32", latencies_s=(took,), wall_s=took
        )  # fmt: skip

    monkeypatch.setattr(sweeping, "run_trial", run_trial)
    monkeypatch.setattr(store, "compile_apart", lambda *words: None)
    return told


@pytest.fixture(autouse=True)
def logged(caplog):
    logger = logging.getLogger("modelport")
    logger.propagate = True
    caplog.set_level(logging.INFO, "modelport")
    return caplog


def recorded(directory: Path) -> list[Trial]:
    lines = (directory / TRIALS_FILE).read_text().splitlines()
    return [Trial.model_validate_json(line) for line in lines[1:]]


def counted(directory: Path) -> Counter:
    return Counter((trial.configuration, trial.repeat) for trial in recorded(directory))


def test_each_configuration_is_measured_and_the_repeats_are_interleaved(tiny_onnx, tmp_path):
    space = SweepSpace(engines=("null", "onnxruntime"), batch_sizes=(2,), repeats=2)
    seen, told = [], []

    result = sweep(tiny_onnx, tmp_path / "out", space, settings=QUICK, on_trial=seen.append,
                   progress=lambda *words: told.append(words))  # fmt: skip

    order = [(trial.repeat, trial.configuration.engine) for trial in recorded(tmp_path / "out")]
    assert order == [(1, "null"), (1, "onnxruntime"), (2, "null"), (2, "onnxruntime")]
    assert seen == recorded(tmp_path / "out")
    assert told == [("sweep", done, 4) for done in range(1, 5)]
    for measured in result.configurations:
        assert (measured.outcome, len(measured.throughputs)) == ("ok", 2)
        low, high = measured.throughput_spread
        assert low <= measured.throughput <= high
    assert SweepResult.read(tmp_path / "out" / "sweep.json") == result
    assert len(list((tmp_path / "out" / "models").iterdir())) == 2


def test_what_an_engine_does_not_offer_is_recorded_as_refused(tiny_onnx, tmp_path, speeds, logged):
    space = SweepSpace(engines=("null", "onnxruntime"), precisions=("bf16", "f32"), batch_sizes=(1,), repeats=2)

    result = sweep(tiny_onnx, tmp_path / "out", space)

    outcomes = {found.configuration.variant: found.outcome for found in result.configurations}
    assert outcomes == {
        "null-bf16": "refused",
        "null-f32": "ok",
        "onnxruntime-bf16": "refused",
        "onnxruntime-f32": "ok",
    }
    first, second = [trial for trial in recorded(tmp_path / "out") if trial.configuration.variant == "onnxruntime-bf16"]
    assert first.reason.startswith("ONNX Runtime does not offer bf16 here; it offers f32")
    assert (second.outcome, second.reason) == ("skipped", "refused in repeat 1")
    assert "onnxruntime-bf16, batch 1: refused: ONNX Runtime does not offer bf16 here" in logged.text


def test_int8_without_images_is_refused_with_what_to_do(tiny_onnx, tmp_path):
    space = SweepSpace(engines=("onnxruntime",), precisions=("int8",), batch_sizes=(1,), repeats=1)
    (found,) = sweep(tiny_onnx, tmp_path / "out", space).configurations
    assert found.outcome == "refused"
    assert "pass --calibration DIR" in found.reason


def test_a_fixed_batch_refuses_the_other_sizes(tmp_path, speeds):
    onnx = models.save(models.classifier(batch=2), tmp_path / "fixed.onnx")
    result = sweep(onnx, tmp_path / "out", NULL)
    assert [found.outcome for found in result.configurations] == ["refused", "ok"]
    assert "its batch is fixed at 2, cannot compile it for 1" in result.configurations[0].reason


def test_a_crash_is_recorded_and_the_sweep_goes_on(tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.setenv(FAULT, "infer-signal:2")
    space = SweepSpace(engines=("null", "onnxruntime"), batch_sizes=(1,), repeats=2)

    result = sweep(tiny_onnx, tmp_path / "out", space, settings=QUICK)

    assert [trial.outcome for trial in recorded(tmp_path / "out")] == ["crashed", "ok", "skipped", "ok"]
    assert [found.configuration.engine for found in result.ran] == ["onnxruntime"]
    assert result.configurations[0].reason == "died (SIGSEGV): it printed nothing"


def test_a_hang_is_recorded_and_the_sweep_goes_on(tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.setenv(FAULT, "infer-hang:2")
    settings = QUICK.model_copy(update={"trial_timeout_s": 4})
    space = SweepSpace(engines=("null",), batch_sizes=(1, 2), repeats=1)
    result = sweep(tiny_onnx, tmp_path / "out", space, settings=settings)
    assert [found.outcome for found in result.configurations] == ["timeout", "timeout"]


def test_a_second_sweep_does_only_what_is_new(tiny_onnx, tmp_path, speeds):
    out, seen = tmp_path / "out", []
    sweep(tiny_onnx, out, NULL)

    again = sweep(tiny_onnx, out, NULL, on_trial=seen.append)
    assert seen == []
    assert len(again.configurations) == 2

    wider = SweepSpace(engines=("null",), batch_sizes=(1, 2, 4), repeats=3)
    sweep(tiny_onnx, out, wider, on_trial=seen.append)
    assert [(t.configuration.batch_size, t.repeat) for t in seen] == [(4, 1), (4, 2), (1, 3), (2, 3), (4, 3)]
    assert set(counted(out).values()) == {1}


def test_a_killed_sweep_goes_on_where_it_was(tiny_onnx, tmp_path):
    out = tmp_path / "out"
    line = [MODELPORT, "sweep", tiny_onnx, "--engines", "null", "--precisions", "f32", "--batch-sizes", "1,2,3",
            "--seconds", "0.02", "--repeats", "2", "--every-batch", "-o", out]  # fmt: skip
    first = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / TRIALS_FILE).exists() or len((out / TRIALS_FILE).read_text().splitlines()) < 3:
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = recorded(out)
    assert 2 <= len(before) < 6

    done = subprocess.run([*line, "--json-lines"], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert len(counted(out)) == 6
    assert set(counted(out).values()) == {1}
    assert recorded(out)[: len(before)] == before
    assert [Trial.model_validate_json(line) for line in done.stdout.splitlines()] == recorded(out)[len(before) :]


def test_a_torn_last_line_is_dropped(tiny_onnx, tmp_path, speeds):
    out = tmp_path / "out"
    sweep(tiny_onnx, out, NULL)
    path = out / TRIALS_FILE
    path.write_bytes(path.read_bytes()[:-20])
    seen = []

    sweep(tiny_onnx, out, NULL, on_trial=seen.append)

    assert [(t.configuration.batch_size, t.repeat) for t in seen] == [(2, 2)]
    assert len(counted(out)) == 4
    assert set(counted(out).values()) == {1}


def test_a_torn_first_line_is_a_new_sweep(tiny_onnx, tmp_path, speeds):
    out = tmp_path / "out"
    out.mkdir()
    (out / TRIALS_FILE).write_text('{"format":"modelport.tri')
    sweep(tiny_onnx, out, NULL)
    assert len(counted(out)) == 4


def test_a_damaged_line_is_told_with_its_place(tiny_onnx, tmp_path, speeds):
    out = tmp_path / "out"
    sweep(tiny_onnx, out, NULL)
    lines = (out / TRIALS_FILE).read_text().splitlines()
    (out / TRIALS_FILE).write_text("\n".join([*lines[:2], "{broken", *lines[3:]]) + "\n")

    with pytest.raises(FormatError, match=r"trials\.jsonl:3: is damaged \(not JSON\); pass --force to start anew"):
        sweep(tiny_onnx, out, NULL)
    sweep(tiny_onnx, out, NULL, force=True)


def test_other_weights_or_settings_start_anew(tiny_onnx, tmp_path, speeds, logged):
    out, seen = tmp_path / "out", []
    sweep(tiny_onnx, out, NULL)
    old = (out / TRIALS_FILE).read_text()
    (out / "models").mkdir(exist_ok=True)
    (out / "models" / "left").touch()
    other = models.save(models.classifier(batch=None), tmp_path / "other.onnx")

    sweep(other, out, NULL, on_trial=seen.append)

    assert len(seen) == 4
    assert (out / PREVIOUS_FILE).read_text() == old
    assert not (out / "models" / "left").exists()
    assert "starting anew, since this is not what it measured (onnx_sha256: " in logged.text
    sweep(other, out, NULL, settings=SweepSettings(seconds=9), on_trial=seen.append)
    assert len(seen) == 8
    assert "seconds: 2.0, 9.0" in logged.text


def test_saturation_skips_larger_batches_of_that_line_only(tiny_onnx, tmp_path, speeds):
    speeds |= {1: 100, 2: 200, 4: 202, 8: 203, 16: 400, 32: 400}
    space = SweepSpace(engines=("null",), batch_sizes=(32, 16, 8, 4, 2, 1), threads=(None, 1), repeats=2)

    result = sweep(tiny_onnx, tmp_path / "out", space)

    for threads in (None, 1):
        line = [found for found in result.configurations if found.configuration.threads == threads]
        assert [found.outcome for found in line] == ["ok"] * 4 + ["skipped"] * 2
        assert line[4].reason == "saturated: batch 8 is +1.5% against batch 2, less than +3% over two steps"
    assert set(counted(tmp_path / "out").values()) == {1}
    every = sweep(tiny_onnx, tmp_path / "every", space, settings=SweepSettings(saturation=None))
    assert {found.outcome for found in every.configurations} == {"ok"}


@pytest.mark.parametrize(
    ("speeds", "stops"),
    [
        ([], False),
        ([(1, 100), (2, 100)], False),
        ([(1, 100), (2, 101), (4, 102)], True),
        ([(1, 100), (2, 90), (4, 80)], True),
        ([(1, 100), (2, 104), (4, 90)], False),  # one bad figure is no reason
        ([(1, 10), (2, 100), (4, 100), (8, 100)], True),
        ([(1, 100), (2, 101), (4, 103)], False),
    ],
)
def test_saturation_is_growth_over_two_steps(speeds, stops):
    assert (saturation(speeds, 0.03) is not None) == stops


def test_a_configuration_with_a_failed_repeat_did_not_run():
    one = Configuration(engine="null", precision="f32", batch_size=2)
    ok = Trial(configuration=one, repeat=1, outcome="ok", latencies_s=(1.0, 3.0), wall_s=4.0)
    faster = ok.model_copy(update={"repeat": 2, "wall_s": 2.0})
    bad = Trial(configuration=one, repeat=3, outcome="crashed", reason="died")

    assert Measured.of([ok, faster]).throughputs == (1.0, 2.0)
    assert Measured.of([ok, faster]).throughput == 1.5
    assert Measured.of([ok, faster]).latency_ms.p50 == 2000
    assert (Measured.of([ok, faster, bad]).outcome, Measured.of([ok, bad]).reason) == ("crashed", "died")


def test_a_foreign_directory_is_never_touched(tiny_onnx, tmp_path, speeds):
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(OutputError, match=r"exists already|holds other files"):
            sweep(tiny_onnx, tmp_path, NULL, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_sweeps_at_once_are_refused(tiny_onnx, tmp_path, speeds):
    result = sweep(tiny_onnx, tmp_path / "out", NULL)
    with journal(tmp_path / "out", result.subject), pytest.raises(OutputError, match="another run is writing here"):
        sweep(tiny_onnx, tmp_path / "out", NULL)


def test_an_unknown_engine_is_told_before_any_work(tiny_onnx, tmp_path):
    with pytest.raises(EngineUnavailableError, match="did you mean 'openvino'"):
        sweep(tiny_onnx, tmp_path / "out", SweepSpace(engines=("openvion",)))
    assert not (tmp_path / "out").exists()


def test_resolutions_need_a_dynamic_input(tiny_onnx, tmp_path):
    space = SweepSpace(engines=("null",), batch_sizes=(1,), resolutions=(16, 24), repeats=1)
    with pytest.raises(FormatError, match="fixed at 16 x 12 pixels, so no other resolution can be tried"):
        sweep(tiny_onnx, tmp_path / "out", space)

    onnx = models.save(models.classifier(height="H", width="W"), tmp_path / "dynamic.onnx")
    result = sweep(onnx, tmp_path / "out", space, settings=QUICK)
    assert [found.configuration.text for found in result.ran] == ["null-f32-16px, batch 1", "null-f32-24px, batch 1"]
    manifest = json.loads((tmp_path / "out" / "models" / "null-f32-24px-batch-1" / "manifest.json").read_text())
    assert manifest["input"]["shape"] == [1, 3, 24, 24]


def test_inputs_are_a_knob(tiny_onnx, tmp_path):
    space = SweepSpace(engines=("onnxruntime",), batch_sizes=(2,), inputs=("float32", "uint8"), repeats=1)
    result = sweep(tiny_onnx, tmp_path / "out", space, settings=QUICK)
    assert [found.configuration.variant for found in result.ran] == ["onnxruntime-f32", "onnxruntime-f32-uint8"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"engines": ()}, "engines must be different values, at least one"),
        ({"streams": (1, 1)}, "streams must be different values"),
        ({"threads": (0,)}, "threads must be at least 1, got 0"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
    ],
)
def test_impossible_spaces_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SweepSpace(**{"engines": ("null",), **wrong})


def command(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    line = [str(MODELPORT), "sweep", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **env}, timeout=100)


def test_the_command_prints_a_table_or_a_document(tiny_onnx, tmp_path):
    words = [tiny_onnx, "--engines", "null", "--precisions", "f32,bf16", "--batch-sizes", "1", "--repeats", "1", "--seconds",
             "0.02", "-o", tmp_path / "out"]  # fmt: skip
    shown = command(*words)
    assert shown.returncode == 0, shown.stderr
    assert "refused: the null engine does not offer bf16 here; it offers f32" in shown.stdout
    document = json.loads(command(*words, "--json").stdout)
    assert [found["outcome"] for found in document["configurations"]] == ["ok", "refused"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--batch-sizes", "1,x"], 2, "expected whole numbers from 1 with commas between"),
        (["--batch-sizes", "1,1"], 2, "a value comes twice"),
        (["--precisions", "f64"], 2, "expected some of f32, bf16"),
        (["--json", "--json-lines"], 2, "exclude each other"),
        (
            ["--precisions", "bf16"],
            1,
            "none of the 5 configurations ran; the first, null-bf16, batch 1: refused: the null",
        ),
    ],
)
def test_what_the_command_refuses(tiny_onnx, tmp_path, words, code, message):
    done = command(tiny_onnx, "--engines", "null", "--repeats", "1", "-o", tmp_path / "out", *words)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert message in " ".join(done.stderr.split())
