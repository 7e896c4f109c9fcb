"""What A and B of a comparison are: entries of the history, or files and directories that commands wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..accuracy import INFER_FILE
from ..errors import FormatError
from ..printable import printable
from ..results import BenchResult, InferResult, RunResult, SweepResult, TuneResult
from ..results.history import HistoryEntry
from ..schema import parse_json, read_text
from . import record
from .choices import Choices
from .store import History, open_history

_FILES = ("run.json", "tune.json", "sweep.json", INFER_FILE)  # in a directory, the first that is there


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """One side of a comparison.

    Attributes:
        label: what it is, in words.
        entry: what it found out.
        choices: decisions by target, where they are there.
    """

    label: str
    entry: HistoryEntry
    choices: Mapping[str, Choices] = field(default_factory=dict)


def load(name: str, history: Path | None) -> Loaded:
    """Find what a name stands for.

    Args:
        name: a file or directory that a command wrote; else an id of the history, `latest` or `latest~N`.
        history: the history's file; None where it is switched off.

    Raises:
        FormatError: there is no such thing, or it cannot be read.
    """
    path = Path(name)
    if path.exists():
        return load_path(path)
    if history is None:
        raise FormatError(f"{name}: no such file or directory, and the history is switched off: give --history PATH")
    with open_history(history) as found:
        return load_entry(found, name)


def load_entry(history: History, name: str) -> Loaded:
    """An entry by its id, the id's beginning, `latest` or `latest~N`."""
    identity = history.resolve(name)
    entry = history.entry(identity)
    return Loaded(
        label=f"{identity[:10]} ({entry.name}, {entry.started})",
        entry=entry,
        choices=history.choices(identity),
    )


def load_path(path: Path) -> Loaded:
    """What a command wrote: a directory of run, infer, tune or sweep, one of their JSON files, or `bench --json`'s output."""
    if path.is_dir():
        found = next((path / name for name in _FILES if (path / name).is_file()), None)
        if found is None:
            raise FormatError(f"{path}: holds none of {', '.join(_FILES)}: not a directory that modelport wrote")
        path = found
    plain = parse_json(read_text(path), str(path))
    entry, choices = _understand(plain, path)
    return Loaded(label=printable(str(path)), entry=entry, choices=choices)


def _understand(plain: Any, path: Path) -> record.Recorded:
    where, at = str(path), datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    first = plain[0] if isinstance(plain, list) and plain else plain
    kind = first.get("format") if isinstance(first, dict) else None
    if kind == "modelport.run":
        return record.of_run(RunResult.parse(plain, where), path.parent)
    if kind == "modelport.history":
        return HistoryEntry.parse(plain, where), {}
    if kind == "modelport.sweep":
        return record.of_sweep(SweepResult.parse(plain, where), path.parent, at)
    if kind == "modelport.tune":
        return record.of_tune(TuneResult.parse(plain, where), path.parent, at)
    if isinstance(first, dict) and "latencies_s" in first:
        benches = [BenchResult.parse(item, where) for item in (plain if isinstance(plain, list) else [plain])]
        return record.of_bench(benches, None, at)
    if isinstance(first, dict) and "e2e" in first:
        return record.of_infer(InferResult.parse(plain, where), path.parent, None, at)
    raise FormatError(
        f"{path}: is not a result that can be compared: expected run.json, sweep.json, tune.json, infer.json, the output of `modelport "
        "bench --json`, or an entry of the history"
    )
