"""From what a command found out to an entry of the history. Recording never fails a run: what goes wrong is a warning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..accuracy import INFER_FILE, PREDICTIONS_FILE
from ..data.labels import read_labels
from ..data.predictions import rows_of
from ..errors import ModelportError
from ..offline import MANIFEST, Manifest
from ..printable import printable
from ..results import Accuracy, BenchResult, InferResult, RunResult, SweepResult, TuneResult
from ..results.history import HistoryEntry
from ..spec import ModelSpec
from .choices import MOST_IMAGES, Choices
from .store import open_history

Recorded = tuple[HistoryEntry, dict[str, Choices]]
log = logging.getLogger("modelport")


@dataclass(frozen=True, slots=True)
class Subject:
    """The model behind a measurement: what its offline model's manifest says."""

    model: ModelSpec
    onnx_sha256: str


def subject_of(model: Path) -> Subject:
    """Of an offline model's directory.

    Raises:
        FormatError: its manifest cannot be read.
    """
    manifest = Manifest.read(model / MANIFEST)
    return Subject(manifest.model, manifest.onnx_sha256)


def keep(path: Path, make: Callable[[], Sequence[Recorded]]) -> None:
    """Put what a command found out into a history. Where that fails, a warning says so, and the command goes on.

    Args:
        path: the history's file.
        make: the entries with their decisions; called here, so that what it cannot read fails here too.
    """
    try:
        with open_history(path, create=True) as history:
            for entry, choices in make():
                identity, new = history.add(entry, choices)
                log.info("history: %s%s", identity[:10], "" if new else " (it was there already)")
    except (ModelportError, OSError) as error:
        log.warning("this run is not in the history: %s", error)


def of_run(result: RunResult, directory: Path) -> Recorded:
    """A job, with the decisions of its targets where its directory holds them."""
    choices = {
        target.name: found
        for target in result.targets
        if (found := _choices(directory / target.name / "predictions" / PREDICTIONS_FILE)) is not None
    }
    entry = HistoryEntry(
        kind="run",
        started=result.started,
        name=result.name,
        model=result.model,
        onnx_sha256=result.onnx_sha256,
        place=_place(directory),
        run=result,
    )
    return entry, choices


def of_bench(benches: Sequence[BenchResult], subject: Subject | None, started: str) -> Recorded:
    """Measurements of pure inference of one model's offline models."""
    name = subject.model.arch if subject else benches[0].name
    return HistoryEntry(kind="bench", started=started, name=name, benches=tuple(benches), **_subject(subject)), {}


def of_benches(models: Sequence[Path], results: Sequence[BenchResult], started: str) -> list[Recorded]:
    """Measurements of several offline models: an entry for each ONNX file that they come from."""
    groups: dict[str, tuple[Subject, list[BenchResult]]] = {}
    for path, result in zip(models, results, strict=True):
        subject = subject_of(path)
        groups.setdefault(subject.onnx_sha256, (subject, []))[1].append(result)
    return [of_bench(found, subject, started) for subject, found in groups.values()]


def of_infer(result: InferResult, directory: Path, subject: Subject | None, started: str) -> Recorded:
    """A real-data run, with its decisions where its directory holds them."""
    entry = HistoryEntry(
        kind="infer",
        started=started,
        name=result.model.arch,
        model=result.model,
        onnx_sha256=subject.onnx_sha256 if subject else None,
        place=_place(directory),
        inference=result,
    )
    found = _choices(directory / PREDICTIONS_FILE)
    return entry, ({} if found is None else {result.name: found})


def of_evaluate(accuracy: Accuracy, directory: Path, labels: Path | None, started: str) -> Recorded:
    """An evaluation of an `infer` directory, with its decisions held against the labels that were given."""
    result = InferResult.read(directory / INFER_FILE)
    entry = HistoryEntry(
        kind="evaluate",
        started=started,
        name=result.model.arch,
        model=result.model,
        place=_place(directory),
        inference=result,
        evaluated=accuracy,
    )
    found = _choices(directory / PREDICTIONS_FILE, read_labels(labels) if labels is not None else None)
    return entry, ({} if found is None else {result.name: found})


def of_sweep(result: SweepResult, directory: Path, started: str) -> Recorded:
    """A sweep: the fastest configuration of each variant is what is listed."""
    subject = result.subject
    entry = HistoryEntry(
        kind="sweep",
        started=started,
        name=subject.model.arch,
        place=_place(directory),
        sweep=result,
        **_subject(Subject(subject.model, subject.onnx_sha256)),
    )
    return entry, {}


def of_tune(result: TuneResult, directory: Path, started: str) -> Recorded:
    """A tuning: its winner is what is listed."""
    subject = result.sweep.subject
    entry = HistoryEntry(
        kind="tune",
        started=started,
        name=subject.model.arch,
        place=_place(directory),
        tune=result,
        **_subject(Subject(subject.model, subject.onnx_sha256)),
    )
    return entry, {}


def _subject(subject: Subject | None) -> dict[str, object]:
    return {"model": subject.model, "onnx_sha256": subject.onnx_sha256} if subject else {}


def _place(directory: Path) -> str:
    return printable(str(directory.absolute()))


def _choices(path: Path, labels: dict[str, int] | None = None) -> Choices | None:
    """Decisions of a predictions file; None where there is none, or there are too many to be kept."""
    if not path.is_file() or rows_of(path) > MOST_IMAGES:
        return None
    return Choices.read(path, labels)
