"""Two runs' offline models measured again, in turn: what two stored runs cannot tell apart from noise, interleaved repeats can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

from ..errors import FormatError
from ..history.store import content_id
from ..offline import MANIFEST
from ..progress import Progress, silent
from ..results import PairedTiming, RunResult
from ..results.comparison import SpeedChange, SpeedVerdict
from ..results.history import HistoryEntry, speed_of
from .paired import TurnOptions, time_in_turn


def measure_again(
    a: HistoryEntry, b: HistoryEntry, *, options: TurnOptions | None = None, progress: Progress = silent
) -> tuple[SpeedChange, ...]:
    """Time every configuration that two jobs have in common, of one stream on one device, A B B A in several processes.

    A change counts where it shows twice: in a timing, and in another one after it (`measure.optimize` keeps rewrites by the same rule).

    Args:
        a, b: entries of `run`, before and after, whose directories still hold what was measured.
        options: rounds and length of a turn.
        progress: called as configurations are done.

    Raises:
        FormatError: an entry is of something else, or its offline models are gone.
        InferenceError: a model cannot be run.
    """
    before, after = _models(a), _models(b)
    both = [name for name in before if name in after]
    changes = []
    for number, name in enumerate(both):
        progress("measure again", number, len(both))
        (model, threads), (other, _) = before[name], after[name]
        changes.append(change_in_turn(name, model, other, replace(options or TurnOptions(), threads=threads)))
    progress("measure again", len(both), len(both))
    return tuple(changes)


def _models(entry: HistoryEntry) -> dict[str, tuple[Path, int | None]]:
    """Offline model, and threads, of each configuration."""
    if entry.run is None or entry.place is None:
        raise FormatError(
            f"{entry.name}: is an entry of `{entry.kind}`; only those of `run` keep models to measure again"
        )
    place, found = Path(entry.place), {}
    path = place / "run.json"
    if not path.is_file() or content_id(entry.model_copy(update={"run": RunResult.read(path)})) != content_id(entry):
        raise FormatError(f"{place}: does not hold this run any more, so its models cannot be measured again")
    for target in entry.run.targets:
        for bench in target.performance:
            model = place / target.name / f"batch-{bench.batch_size}"
            if not (model / MANIFEST).is_file():
                raise FormatError(f"{model}: there is no offline model any more, so it cannot be measured again")
            if bench.streams == 1 and len(bench.devices) == 1:
                found[speed_of(bench).configuration] = model, bench.threads
    return found


def change_in_turn(name: str, before: Path, after: Path, options: TurnOptions) -> SpeedChange:
    """Whether one of two offline models is faster than the other, in turn; `name` is the configuration's."""
    timing = time_in_turn(before, after, options)
    first = _side(timing)
    if first != "no change":
        second = time_in_turn(before, after, options)
        timing = timing.joined(second)
        first = first if _side(second) == first else "no change"
    fast, slow = timing.interval95  # of speed after ÷ speed before
    verdict: SpeedVerdict = "doubtful" if timing.busy and first != "no change" else first
    return SpeedChange(
        configuration=name,
        before_ms=median(timing.before_s) * 1e3,
        after_ms=median(timing.after_s) * 1e3,
        slowdown=1 / timing.ratio - 1,
        low=1 / slow - 1,
        high=1 / fast - 1 if fast else float("inf"),
        noise=0.0,
        noise_source="measured in turn",
        overlap=_overlap(timing),
        verdict=verdict,
        reason=f"measured again in turn, {len(timing.ratios)} rounds in {timing.processes} processes"
        + ("; it showed twice" if first != "no change" else "")
        + ("; others used the machine" if timing.busy else ""),
    )


def _side(timing: PairedTiming) -> SpeedVerdict:
    low, high = timing.interval95
    return "faster" if low > 1 else "slower" if high < 1 else "no change"


def _overlap(timing: PairedTiming) -> bool:
    return min(timing.before_s) <= max(timing.after_s) and min(timing.after_s) <= max(timing.before_s)
