"""Two runs held against each other: did accuracy and speed change beyond noise?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import FormatError
from ..results.comparison import Comparison, SpeedChange
from ..results.history import Speed
from .decisions import compare_accuracy
from .loading import Loaded, load
from .place import place
from .speed import Noise, compare_speed, learnt_noise, require_latencies, seen_noise
from .store import content_id, environment_digest, open_history


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareOptions:
    """How to compare.

    Attributes:
        across_environments: compare runs of unlike machines and software all the same.
        noise: standard deviation of a median latency from run to run, as a fraction; None learns it from the history.
        history: the history's file; None does without.
    """

    across_environments: bool = False
    noise: float | None = None
    history: Path | None = None


def compare(a: Path | str, b: Path | str, *, options: CompareOptions | None = None) -> Comparison:
    """Compare two runs: A before, B after.

    Args:
        a, b: files or directories that commands wrote, or ids of the history.
        options: see CompareOptions; None is the user's own history, and its rules.

    Raises:
        FormatError: one of them is not there, their environments are unlike, or they have nothing in common.
    """
    options = options or CompareOptions(history=place())
    return compare_loaded(load(str(a), options.history), load(str(b), options.history), options)


def compare_loaded(a: Loaded, b: Loaded, options: CompareOptions) -> Comparison:
    """The same with what `load` found."""
    differences = _environments(a, b, options)
    speed, alone = _speed(a, b, options)
    accuracy, more = compare_accuracy(a, b)
    if not _common(a, b):
        raise FormatError(
            f"{a.label} and {b.label} have no configuration and no target in common: {_names(a)} there, {_names(b)} here"
        )
    return Comparison(
        a=a.label,
        b=b.label,
        differences=differences,
        speed=speed,
        accuracy=accuracy,
        notes=(*_notes(a, b), *alone, *more),
    )


def _environments(a: Loaded, b: Loaded, options: CompareOptions) -> tuple[str, ...]:
    ours, theirs = a.entry.environment, b.entry.environment
    found = ours.differences(theirs) if ours is not None and theirs is not None else []
    if found and not options.across_environments:
        raise FormatError(
            f"{a.label} and {b.label} were measured in unlike environments: {'; '.join(found)}; pass --across-environments to compare "
            "them all the same"
        )
    return tuple(found)


def _speed(a: Loaded, b: Loaded, options: CompareOptions) -> tuple[tuple[SpeedChange, ...], list[str]]:
    """Changes of the configurations that both have, and a note of the others."""
    before, after = _by_configuration(a), _by_configuration(b)
    both = [name for name in before if name in after]
    alone = [f"{name}: only in {'A' if name in before else 'B'}" for name in before.keys() ^ after.keys()]
    for speed in (*before.values(), *after.values()):
        require_latencies(speed)
    noises = _noises(b, both, options)
    if options.noise is None:
        seen = seen_noise([(before[name], after[name]) for name in both])
        noises = {name: max(noise, seen, key=lambda noise: noise.deviation) for name, noise in noises.items()}
    found = (compare_speed(before[name], after[name], noises[name], len(both)) for name in both)
    changes = tuple(change for change in found if change is not None)
    return changes, sorted(alone) + [
        f"{name}: ran in {before[name].executed_precision} before, in {after[name].executed_precision} after"
        for name in both
        if before[name].executed_precision != after[name].executed_precision
    ]


def _by_configuration(side: Loaded) -> dict[str, Speed]:
    """One measured several times (`modelport bench MODEL MODEL`) has the rounds of each: the model was opened anew."""
    found: dict[str, Speed] = {}
    for speed in side.entry.speeds:
        known = found.get(speed.configuration)
        if known is not None:
            paces = None if known.pace_s is None or speed.pace_s is None else known.pace_s + speed.pace_s
            doubtful = known.doubtful or speed.doubtful
            more = {"rounds_s": known.rounds_s + speed.rounds_s, "pace_s": paces, "doubtful": doubtful}
            speed = known.model_copy(update=more)  # noqa: PLW2901
        found[speed.configuration] = speed
    return found


def _noises(b: Loaded, configurations: Sequence[str], options: CompareOptions) -> dict[str, Noise]:
    """Noise from run to run of each configuration: as told, from B's earlier runs on B's machine, or assumed."""
    if options.noise is not None:
        return dict.fromkeys(configurations, Noise(options.noise, source="as it was stated"))
    onnx, machine = b.entry.onnx_sha256, environment_digest(b.entry)
    if options.history is None or not options.history.is_file() or onnx is None or machine is None:
        return dict.fromkeys(configurations, Noise())
    with open_history(options.history) as history:
        return {
            name: learnt_noise(
                history.medians(name, onnx_sha256=onnx, environment=machine, without=content_id(b.entry))
            )
            for name in configurations
        }


def _notes(a: Loaded, b: Loaded) -> list[str]:
    notes = []
    if content_id(a.entry) == content_id(b.entry):
        notes.append("A and B are the same run")
    ours, theirs = a.entry.onnx_sha256, b.entry.onnx_sha256
    if ours is not None and theirs is not None and ours != theirs:
        notes.append(f"the ONNX files differ: {ours[:12]}… in A, {theirs[:12]}… in B")
    if a.entry.model and b.entry.model and (found := a.entry.model.preprocess.differences(b.entry.model.preprocess)):
        notes.append(f"the preprocessing differs: {'; '.join(found)}")
    return notes


def _common(a: Loaded, b: Loaded) -> bool:
    """Whether both have a configuration or a target."""
    mine, theirs = (
        {*(s.configuration for s in side.entry.speeds), *(t.target for t in side.entry.accuracies)} for side in (a, b)
    )
    return bool(mine & theirs)


def _names(side: Loaded) -> str:
    names = [*(s.configuration for s in side.entry.speeds), *(t.target for t in side.entry.accuracies)]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "nothing measured"
