"""`python benchmarks/compare_noise.py [--again] [--tries 20] [--out FILE]`: how often `compare` is right, on real runs. On an idle machine.

Each try measures a small CSPResNeXt50 three times, each time in processes of its own, as `modelport bench` does: as it is, as
it is again, and a tenth slower (after each batch it spins for a tenth of what the batch took). The first two have to be "no
change beyond noise", the first and the third "slower". A drop of accuracy is planted into real decisions on the digits.

With --again the models are measured in turn instead, as `compare --again` does: the model against a copy of itself, and against one
that is planted a tenth slower in the same way.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from models import Configuration, Models

from modelport.engines.session import Session
from modelport.history.choices import Choices
from modelport.history.compare import CompareOptions, compare_loaded
from modelport.history.loading import Loaded, load_path
from modelport.history.record import of_bench, subject_of
from modelport.history.store import open_history
from modelport.host import environment
from modelport.measure import paired
from modelport.measure.again import change_in_turn
from modelport.measure.bench import bench
from modelport.measure.paired import TurnOptions
from modelport.results import BenchResult
from modelport.spec import Precision

POINTS = 2.0
SLOWER = "slower"  # name of the copy that is


def plant(slower: float, where: str) -> None:
    """From now on a batch takes longer by the fraction `slower` wherever the session's name has `where` in it."""
    original = Session.infer

    def infer(self: Session, batch: np.ndarray) -> np.ndarray:
        begin = perf_counter()
        scores = original(self, batch)
        until = perf_counter() + slower * (perf_counter() - begin)
        while where in self.where and perf_counter() < until:
            pass
        return scores

    Session.infer = infer  # type: ignore[method-assign]


def child(model: Path, rounds: int | None, slower: float) -> None:
    """Measure in this process, and print the result."""
    if slower:
        plant(slower, "")
    print(bench(model, rounds=rounds).model_dump_json())


def turn(request: str, slower: float) -> None:
    """The child of a timing in turn, in which the copy named `slower` is."""
    plant(slower, SLOWER)
    print(json.dumps(paired._time(json.loads(request))))


def again(model: Path, tries: int, slower: float) -> dict[str, Counter[str]]:
    """Verdicts of `measure_again` on the model and its copies."""

    def ask(module: str, request: dict[str, Any], *, timeout: float | None = None) -> Any:
        line = [sys.executable, __file__, "--turn", json.dumps(request), "--slower", str(slower)]
        return json.loads(subprocess.run(line, capture_output=True, text=True, check=True, timeout=timeout).stdout)

    paired.child.ask = ask  # type: ignore[assignment]
    same, slow = (Path(shutil.copytree(model, model.with_name(name))) for name in ("same", SLOWER))
    counts: dict[str, Counter[str]] = {}
    for number in range(1, tries + 1):
        for what, other in (("same model", same), (f"{slower:.0%} slower", slow)):
            found = change_in_turn(what, model, other, TurnOptions())
            counts.setdefault(what, Counter())[found.verdict] += 1
            print(f"try {number}, {what}: {found.verdict} ({found.low:+.1%} to {found.high:+.1%})", flush=True)
    return counts


def measured(models: Sequence[Path], rounds: int | None, slower: float) -> list[BenchResult]:
    """One run: each model in a process of its own."""
    found = []
    for model in models:
        line = [sys.executable, __file__, "--child", str(model), "--slower", str(slower)]
        line += [] if rounds is None else ["--rounds", str(rounds)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        found.append(BenchResult.parse(json.loads(done.stdout), "a child's reply"))
    return found


def verdict(before: Loaded, after: Loaded, history: Path | None) -> str:
    """What `compare` says of two runs; with `history`, which knows the machine, or without."""
    found = {change.verdict for change in compare_loaded(before, after, CompareOptions(history=history)).speed}
    return next(word for word in ("slower", "faster", "doubtful", "cannot tell", "no change") if word in found)


def judged(run: Sequence[Loaded], history: Path, slower: float) -> dict[str, str]:
    """The verdicts of one try: of two runs alone, with a history, and as if nobody had looked at the machine's own pace."""
    ways = (("", run, None), (", with the tries before in the history", run, history),
            (", had nobody looked at the machine's pace", [blind(side) for side in run], None))  # fmt: skip
    return {
        what + way: verdict(sides[0], sides[place], known)
        for what, place in (("same model", 1), (f"{slower:.0%} slower", 2))
        for way, sides, known in ways
    }


def blind(run: Loaded) -> Loaded:
    """The same run without the machine's pace."""
    benches = tuple(
        bench.model_copy(update={"hygiene": bench.hygiene and bench.hygiene.model_copy(update={"pace_s": None})})
        for bench in run.entry.benches
    )
    return Loaded(label=run.label, entry=run.entry.model_copy(update={"benches": benches}))


def remember(path: Path, run: Loaded) -> None:
    """Put a run into the history."""
    with open_history(path, create=True) as history:
        history.add(run.entry, {})


def between(runs: Sequence[list[BenchResult]]) -> list[float]:
    """Standard deviation from run to run of each model's median latency, from neighbours' differences."""
    logs = np.log([[np.median(result.latencies_s) for result in run] for run in runs])
    return [float(value) for value in np.sqrt((np.diff(logs, axis=0) ** 2).mean(axis=0) / 2)]


def drops_found(job: Path, tries: int) -> tuple[int, int]:
    """Of drops of two points, planted into one target's real decisions: how many are found; and of how many images."""
    real = load_path(job)
    result = real.entry.run
    assert result is not None
    first, *others = result.targets
    choices, accuracy, found = real.choices[first.name], first.accuracy, 0
    assert accuracy is not None
    right = np.flatnonzero(choices.first == choices.labels)
    lost = math.ceil(POINTS / 100 * len(choices.first))
    for seed in range(tries):
        decided = choices.first.copy()
        decided[np.random.default_rng(seed).choice(right, lost, replace=False)] = -1
        fewer = accuracy.model_copy(update={"hits": (accuracy.hits[0] - lost, *accuracy.hits[1:])})
        targets = (first.model_copy(update={"accuracy": fewer}), *others)
        entry = real.entry.model_copy(update={"run": result.model_copy(update={"targets": targets})})
        planted = real.choices | {first.name: Choices(choices.images, decided, choices.labels)}
        changes = compare_loaded(real, Loaded(label="planted", entry=entry, choices=planted), CompareOptions()).accuracy
        found += [change.verdict for change in changes] == ["lower"] + ["no change"] * len(others)
    return found, len(choices.first)


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--rounds", type=int, help="of a measurement; left out, as many as `modelport bench` takes")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--job", type=Path, default=Path(".demo/run"), help="of `make demo`, for the drop of accuracy")
    parser.add_argument("--out", type=Path, default=Path(".demo/compare_noise.json"))
    parser.add_argument("--again", action="store_true", help="measure in turn, as `compare --again` does")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--slower", type=float, default=0.1, help="what is planted, as a fraction")
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.rounds, options.slower)
        return
    if options.turn is not None:
        turn(options.turn, options.slower)
        return
    with tempfile.TemporaryDirectory(prefix="modelport-noise-") as temporary:
        made = Models(Path(temporary), size=64, calibration=2)
        wanted = Configuration("openvino", Precision.F32)
        if options.again:
            counts = again(made.compiled(wanted, 8).path, options.tries, options.slower)
            print("\n".join(f"{what}: {dict(found)} of {options.tries}" for what, found in counts.items()))
            return
        models = [made.compiled(wanted, int(size)).path for size in options.batches.split(",")]
        runs: list[list[list[BenchResult]]] = []
        history = Path(temporary) / "history.db"
        counts: dict[str, Counter[str]] = {}
        for number in range(1, options.tries + 1):
            runs.append([measured(models, options.rounds, slower) for slower in (0.0, 0.0, options.slower)])
            before, same, slowed = (
                Loaded(label="run", entry=of_bench(run, subject_of(models[0]), f"{number:05}.{place}")[0])
                for place, run in enumerate(runs[-1])
            )
            remember(history, before)
            told = judged((before, same, slowed), history, options.slower)
            remember(history, same)
            for what, word in told.items():
                counts.setdefault(what, Counter())[word] += 1
            print(f"try {number}: " + "; ".join(f"{what}: {word}" for what, word in told.items()), flush=True)
    for what, found in counts.items():
        print(
            f"{what}: " + ", ".join(f"{word} {count}" for word, count in found.most_common()) + f" of {options.tries}"
        )
    spread = between([run for tried in runs for run in tried[:2]])
    print("standard deviation from run to run: " + ", ".join(f"{value:.1%}" for value in spread))
    busy = sum(result.hygiene is not None and result.hygiene.busy for tried in runs for run in tried for result in run)
    print(f"measurements on a busy machine: {busy} of {len(runs) * 3 * len(models)}")
    if (options.job / "run.json").is_file():
        found, images = drops_found(options.job, options.tries)
        print(
            f"a drop of {POINTS:g} points in one target's {images} real decisions: found in {found} of {options.tries} tries"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "environment": environment().jsonable(),
        "counts": counts,
        "between": spread,
        "busy": busy,
        "pace_s": [[[result.hygiene and result.hygiene.pace_s for result in run] for run in tried] for tried in runs],
        "latencies_s": [[[result.latencies_s for result in run] for run in tried] for tried in runs],
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
