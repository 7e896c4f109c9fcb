"""A sweep: batch sizes × precisions × streams × threads × engines in one go, interleaved, resumable, each trial apart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .. import files
from ..data.source import open_source
from ..engines import load, names
from ..errors import EngineUnavailableError, FormatError
from ..graph import ClassifierGraph, read_classifier
from ..host import environment
from ..progress import Progress, silent
from ..results import Configuration, Measured, Outcome, SweepResult, SweepSettings, SweepSubject, Trial
from ..spec import Precision, Preprocess
from .journal import TRIALS_FILE, Journal, journal
from .store import ModelStore
from .trial import FailedWorkError, run_trial

if TYPE_CHECKING:
    from ..exporter.program import TorchWeights

SWEEP_FILE = "sweep.json"
log = logging.getLogger("modelport")


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSpace:
    """What to try: every combination.

    Attributes:
        engines: their names.
        precisions, batch_sizes, streams: of each engine; what it does not offer is recorded as refused.
        threads: None is the engine's choice.
        inputs: float32, or uint8 where the model normalises pixels itself.
        resolutions: heights and widths of the input, in pixels; None is the model's own.
        repeats: trials of each configuration.
        calibration: images for int8; without them int8 is refused, unless the ONNX file is quantised.
        weights: where the network lies in PyTorch, for engines that compile that; without them these are refused.
    """

    engines: tuple[str, ...]
    precisions: tuple[Precision, ...] = (Precision.F32,)
    batch_sizes: tuple[int, ...] = (1, 4, 8, 16, 32)
    streams: tuple[int, ...] = (1,)
    threads: tuple[int | None, ...] = (None,)
    inputs: tuple[Literal["float32", "uint8"], ...] = ("float32",)
    resolutions: tuple[int | None, ...] = (None,)
    repeats: int = 3
    calibration: Path | str | None = None
    weights: TorchWeights | None = None

    def __post_init__(self) -> None:
        for name in ("engines", "precisions", "batch_sizes", "streams", "threads", "inputs", "resolutions"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different values, at least one; got {values}")
            if wrong := [value for value in values if isinstance(value, int) and value < 1]:
                raise ValueError(f"{name} must be at least 1, got {wrong[0]}")
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")

    def configurations(self) -> list[Configuration]:
        """Every combination; those that differ only in the batch size follow each other, smallest first."""
        fields = "engine", "precision", "input", "resolution", "streams", "threads", "batch_size"
        variants = self.engines, self.precisions, self.inputs, self.resolutions
        knobs = *variants, self.streams, self.threads, sorted(self.batch_sizes)
        return [Configuration(**dict(zip(fields, values, strict=True))) for values in product(*knobs)]


def installed_engines(*, pytorch: bool = False) -> tuple[str, ...]:
    """Engines whose runtimes are installed, the null engine aside; those that compile PyTorch's network only with `pytorch`."""
    fit = (name for name in names() if name != "null" and (pytorch or not load(name).from_program))
    return tuple(name for name in fit if _installed(name))


def sweep(  # noqa: PLR0913
    onnx: Path | str,
    output: Path | str,
    space: SweepSpace,
    *,
    settings: SweepSettings | None = None,
    preprocess: Preprocess | None = None,
    num_classes: int | None = None,
    force: bool = False,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    progress: Progress = silent,
) -> SweepResult:
    """Measure a classifier in every configuration of a space.

    A trial that the engine refuses, that crashes or hangs is recorded as such and its configuration is not tried again.
    Called again with the same output, it does only what is not recorded; a wider space is added to. Other weights,
    settings, software or another machine start anew.

    Args:
        onnx: the classifier.
        output: directory of `trials.jsonl` (a line for each trial, written as it ends), `models/` and `sweep.json`.
        space: what to try.
        settings: time of a trial, time-outs, early stop.
        preprocess, num_classes: for a file that does not say.
        force: start anew.
        on_trial: called with each new trial.
        progress: called as trials are done.

    Raises:
        FormatError: the file is no image classifier, or its resolution is fixed and others were asked for.
        EngineUnavailableError: no engine has this name.
        OutputError: `output` holds something else, or another sweep is writing there.
    """
    output = Path(output)
    graph = read_classifier(Path(onnx))
    spec = graph.resolve_spec(preprocess, num_classes)
    _require_resolutions(graph, space)
    for engine in space.engines:
        load(engine)
    subject = SweepSubject(
        model=spec,
        onnx_sha256=graph.sha256,
        calibration=open_source(space.calibration).digest() if space.calibration else None,
        settings=settings or SweepSettings(),
        environment=environment(),
    )
    if force:
        files.remove_directory(output, marker=TRIALS_FILE)
    with journal(output, subject) as book:
        if book.anew:
            ModelStore.clear(output)
        models = ModelStore(output, graph, subject, space.calibration, space.weights)
        result = _Sweep(space, models, book).run(on_trial, progress)
        result.write(output / SWEEP_FILE)
    return result


class _Sweep:
    """One run over a space."""

    def __init__(self, space: SweepSpace, models: ModelStore, book: Journal) -> None:
        self._space, self._models, self._book = space, models, book
        self._settings = models.subject.settings
        self._told: set[tuple[str, str | None]] = set()

    def run(self, on_trial: Callable[[Trial], None], progress: Progress) -> SweepResult:
        configurations, trials = self._space.configurations(), self._book.trials
        total = len(configurations) * self._space.repeats
        # Repeat by repeat: a machine that slows down for a minute shall not slow down one configuration alone.
        plan = product(range(1, self._space.repeats + 1), configurations)
        for done, (repeat, configuration) in enumerate(plan, start=1):
            if (configuration, repeat) not in trials:
                trial = self._try(configuration, repeat)
                self._book.add(trial)
                self._tell(trial)
                on_trial(trial)
            progress("sweep", done, total)
        repeats = range(1, self._space.repeats + 1)
        measured = (Measured.of([trials[configuration, n] for n in repeats]) for configuration in configurations)
        return SweepResult(subject=self._models.subject, configurations=tuple(measured))

    def _try(self, configuration: Configuration, repeat: int) -> Trial:
        outcome: Outcome = "skipped"
        reason = self._reason_to_skip(configuration, repeat)
        if reason is None:
            try:
                model = self._models.get(configuration)
                return run_trial(model, configuration, repeat, self._settings)
            except FailedWorkError as error:
                outcome, reason = error.outcome, error.reason
        return Trial(configuration=configuration, repeat=repeat, outcome=outcome, reason=reason)

    def _reason_to_skip(self, configuration: Configuration, repeat: int) -> str | None:
        for earlier in range(1, repeat):
            trial = self._book.trials[configuration, earlier]
            if trial.outcome == "skipped":
                return trial.reason
            if trial.outcome != "ok":
                return f"{trial.outcome} in repeat {earlier}"
        return self._saturated(configuration) if repeat == 1 else None

    def _tell(self, trial: Trial) -> None:
        """Say on the log what did not run, and each reason only once."""
        what = trial.configuration.variant, trial.reason
        if trial.outcome == "ok" or (trial.outcome == "skipped" and trial.repeat > 1) or what in self._told:
            return
        self._told.add(what)
        level = logging.INFO if trial.outcome == "skipped" else logging.WARNING
        log.log(level, "%s: %s: %s", trial.configuration.text, trial.outcome, trial.reason)

    def _saturated(self, configuration: Configuration) -> str | None:
        """Why a larger batch is not worth trying, judged by the smaller ones' first repeats."""
        limit = self._settings.saturation
        smaller = [
            (trial.configuration.batch_size, trial.throughput)
            for (other, repeat), trial in sorted(self._book.trials.items(), key=lambda item: item[0][0].batch_size)
            if repeat == 1 and other.line == configuration.line and other.batch_size < configuration.batch_size
        ]
        return None if limit is None else saturation([(size, speed) for size, speed in smaller if speed], limit)


def saturation(speeds: list[tuple[int, float]], limit: float) -> str | None:
    """Whether throughput has stopped growing with the batch size.

    Args:
        speeds: batch size and throughput, smallest batch first.
        limit: growth over two steps, as a share, below which it has.

    Returns:
        The reason in words, or None where it still grows or fewer than three sizes are known.
    """
    if len(speeds) < 3:
        return None
    (before, base), *later = speeds[-3:]
    size, best = max(later, key=lambda item: item[1])
    growth = best / base - 1
    if growth >= limit:
        return None
    return f"saturated: batch {size} is {growth:+.1%} against batch {before}, less than {limit:+.0%} over two steps"


def _require_resolutions(graph: ClassifierGraph, space: SweepSpace) -> None:
    _, height, width = graph.input_size
    if any(space.resolutions) and (height or width):
        raise FormatError(
            f"{graph.path}: its input is fixed at {height or 'any'} x {width or 'any'} pixels, so no other resolution can be "
            "tried; export it with a dynamic height and width"
        )


def _installed(engine: str) -> bool:
    try:
        return bool(load(engine).version())
    except EngineUnavailableError:
        return False
