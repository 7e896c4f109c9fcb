"""The history: entries added, listed, found, removed.

Every entry's document is kept whole and is what counts; the tables beside it are made from it, so that lists need not read
documents, and so that other programs can ask in SQL.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import limits
from ..errors import FormatError
from ..natural import natural
from ..results.history import AccuracyRow, HistoryEntry, HistoryRow, SpeedRow
from ..schema import parse_json
from .choices import Choices
from .database import Database, open_database
from .wanted import Wanted

_LEAST_PREFIX = 4
_VOLATILE = {"started", "wall_s", "recipe", "commands", "place"}  # when and where, not what
_LISTED = "id, kind, started, name, model, verdict, place, machine, environment"
_NEWEST_FIRST = "ORDER BY started DESC, recorded DESC, rowid DESC"  # two of one second: as they came in


class History:
    """An open history; `open_history` makes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def path(self) -> Path:
        """Its file."""
        return self._database.path

    def add(self, entry: HistoryEntry, choices: Mapping[str, Choices] | None = None) -> tuple[str, bool]:
        """Keep a run.

        Args:
            entry: what it found out.
            choices: decisions by target.

        Returns:
            Its id, and whether it is new: one with the same content is kept once, whenever and wherever it was run again.

        Raises:
            OutputError: it cannot be written.
        """
        identity, now = content_id(entry), datetime.now(UTC).isoformat(timespec="seconds")
        row = (identity, entry.kind, entry.started, now, entry.name, entry.model.arch if entry.model else None,
               entry.onnx_sha256, entry.verdict, entry.place, _machine(entry), environment_digest(entry),
               zlib.compress(entry.model_dump_json().encode(), 6))  # fmt: skip
        speeds = [
            (identity, s.configuration, s.engine, s.precision.value, s.batch_size, s.throughput,
             s.median_s * 1e3 if s.median_s is not None else None, s.doubtful)
            for s in entry.speeds
        ]  # fmt: skip
        accuracies = [
            (identity, a.target, a.engine, a.precision.value, a.accuracy.topn[0] if a.accuracy else None,
             a.accuracy.topn[-1] if a.accuracy else None, a.accuracy.images if a.accuracy else None, a.e2e, a.passed)
            for a in entry.accuracies
        ]  # fmt: skip
        kept = [(identity, target, found.images, found.pack()) for target, found in (choices or {}).items()]
        with self._database.transaction():
            new = self._database.insert("entries", [row]) == 1
            if new:
                self._database.insert("speeds", speeds)
                self._database.insert("accuracies", accuracies)
                self._database.insert("choices", kept)
        return identity, new

    def rows(self, wanted: Wanted | None = None) -> list[HistoryRow]:
        """The entries, newest first, without their documents."""
        where, values = (wanted or Wanted()).sql()
        return self._rows(where, values, wanted.limit if wanted is not None else None)

    def row(self, identity: str) -> HistoryRow:
        """One entry as it is listed.

        Raises:
            FormatError: it is not there.
        """
        found = self._rows("WHERE id = ?", [identity], None)
        if not found:
            raise FormatError(f"{self.path}: has no entry {identity}")
        return found[0]

    def _rows(self, where: str, values: list[Any], limit: int | None) -> list[HistoryRow]:
        cut = f"LIMIT {limit:d}" if limit is not None else ""
        found = self._database.ask(f"SELECT {_LISTED} FROM entries {where} {_NEWEST_FIRST} {cut}", values)
        speeds, accuracies = self._figures("speeds"), self._figures("accuracies")
        try:
            return [
                HistoryRow(
                    **dict(row),
                    speeds=tuple(SpeedRow(**speed) for speed in speeds.get(row["id"], ())),
                    accuracies=tuple(AccuracyRow(**item) for item in accuracies.get(row["id"], ())),
                )
                for row in found
            ]
        except (LookupError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise FormatError(f"{self.path}: holds what no modelport wrote: {reason}") from error

    def _figures(self, table: str) -> dict[str, list[dict[str, Any]]]:
        by_entry: dict[str, list[dict[str, Any]]] = {}
        for row in self._database.ask(f"SELECT * FROM {table} ORDER BY rowid"):
            plain = dict(row)
            by_entry.setdefault(plain.pop("entry"), []).append(plain)
        return by_entry

    def resolve(self, name: str) -> str:
        """The id that a prefix of at least four digits stands for, or `latest`, or `latest~N`, N entries before it.

        Raises:
            FormatError: there is none, or there are several.
        """
        if name == "latest" or name.startswith("latest~"):
            return self._latest(name)
        if len(name) < _LEAST_PREFIX or not set(name) <= set("0123456789abcdef"):
            raise FormatError(
                f"{name!r} is no file, no directory and no id: expected at least {_LEAST_PREFIX} digits of an id as `modelport "
                "history` shows it, `latest`, `latest~1`, or where a run.json is"
            )
        sql = "SELECT id FROM entries WHERE substr(id, 1, ?) = ? ORDER BY id LIMIT 6"
        found = [row["id"] for row in self._database.ask(sql, (len(name), name))]
        if not found:
            raise FormatError(f"{self.path}: has no entry {name}; `modelport history` lists them")
        if len(found) > 1:
            shown = ", ".join(identity[: max(12, len(name) + 2)] for identity in found)
            raise FormatError(f"{self.path}: {name} is the beginning of several ids: {shown}; type more of it")
        return found[0]

    def _latest(self, name: str) -> str:
        back = natural(name.removeprefix("latest").removeprefix("~") or "0")
        if back is None or back > 1e9:
            raise FormatError(f"{name!r}: expected `latest`, or `latest~1` for the one before it")
        found = self._database.ask(f"SELECT id FROM entries {_NEWEST_FIRST} LIMIT 1 OFFSET ?", (back,))
        if not found:
            count = self._database.ask("SELECT count(*) FROM entries")[0][0]
            raise FormatError(f"{self.path}: has no {name}: entries in it: {count:,}")
        return str(found[0]["id"])

    def entry(self, identity: str) -> HistoryEntry:
        """A kept entry, whole.

        Raises:
            FormatError: it is not there, or damaged.
        """
        found = self._database.ask("SELECT document FROM entries WHERE id = ?", (identity,))
        if not found:
            raise FormatError(f"{self.path}: has no entry {identity}")
        where = f"{self.path}, entry {identity[:10]}"
        expander = zlib.decompressobj()
        try:
            text = expander.decompress(found[0]["document"], limits.TEXT_BYTES).decode()
        except (zlib.error, UnicodeDecodeError, TypeError) as error:
            raise FormatError(f"{where}: is damaged: {error}") from error
        if not expander.eof:
            raise FormatError(f"{where}: is damaged, or has more than {limits.TEXT_BYTES:,} bytes")
        return HistoryEntry.parse(parse_json(text, where), where)

    def choices(self, identity: str) -> dict[str, Choices]:
        """The kept decisions of an entry, by target."""
        rows = self._database.ask("SELECT target, images, data FROM choices WHERE entry = ?", (identity,))
        where = f"{self.path}, entry {identity[:10]}"
        return {row["target"]: Choices.unpack(row["images"], row["data"], where) for row in rows}

    def medians(self, configuration: str, *, onnx_sha256: str, environment: str, without: str | None) -> list[float]:
        """Median latencies in milliseconds of one configuration of one model on one machine, oldest first.

        Doubtful ones are left out, and those of the entry `without`.
        """
        rows = self._database.ask(
            "SELECT median_ms FROM speeds JOIN entries ON entries.id = speeds.entry WHERE configuration = ? AND onnx_sha256 = ? "
            "AND environment = ? AND id IS NOT ? AND doubtful IS NULL AND median_ms > 0 ORDER BY started, recorded, entries.rowid",
            (configuration, onnx_sha256, environment, without),
        )
        return [row["median_ms"] for row in rows]

    def remove(self, identities: Iterable[str]) -> int:
        """Forget entries, and give their room back to the file system.

        Returns:
            How many there were.
        """
        with self._database.transaction():
            gone = sum(
                self._database.change("DELETE FROM entries WHERE id = ?", (identity,)) for identity in identities
            )
        self._database.change("VACUUM")
        return gone


@contextmanager
def open_history(path: Path, *, create: bool = False) -> Iterator[History]:
    """Open a history.

    Args:
        path: its file.
        create: make it where it is not there.

    Raises:
        FormatError: there is none, or it is no history.
        OutputError: it cannot be made, or is locked.
    """
    if not create and not path.is_file():
        raise FormatError(
            f"{path}: there is no history here yet; `modelport run`, bench, infer, evaluate, sweep and tune begin one"
        )
    with open_database(path, create=create) as database:
        yield History(database)


def content_id(entry: HistoryEntry) -> str:
    """Digest of what was found out, without when and where: a finished run that is run again has the same."""
    plain = entry.jsonable()
    for part in (plain, plain["run"] or {}):
        for key in _VOLATILE & part.keys():
            del part[key]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def environment_digest(entry: HistoryEntry) -> str | None:
    """Tells machines and software apart."""
    found = entry.environment
    return hashlib.sha256(found.model_dump_json().encode()).hexdigest() if found is not None else None


def _machine(entry: HistoryEntry) -> str | None:
    found = entry.environment
    return f"{found.cpu}, {found.cores} cores" if found is not None else None
