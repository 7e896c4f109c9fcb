"""Which entries a list shall show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_AGO = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which entries; what is None lets all through.

    Attributes:
        model: part of the model's or the run's name, without regard to case.
        kind, engine, precision, batch_size: exactly.
        since: earliest start, ISO 8601 in UTC.
        verdict: `passed`, `failed`, or `none` for what was not judged.
        limit: how many, newest first.
    """

    kind: str | None = None
    model: str | None = None
    engine: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    since: str | None = None
    verdict: str | None = None
    limit: int | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """A WHERE clause on `entries`, and its values."""
        parts: list[str] = []
        values: list[Any] = []
        if self.model is not None:
            parts.append("(instr(lower(coalesce(model, '')), ?) OR instr(lower(name), ?))")
            values += [self.model.lower()] * 2
        if self.kind is not None:
            parts.append("kind = ?")
            values.append(self.kind)
        if self.verdict is not None:
            parts.append("verdict IS ?")
            values.append(None if self.verdict == "none" else self.verdict)
        if self.since is not None:
            parts.append("started >= ?")
            values.append(self.since)
        figures = {"engine": self.engine, "precision": self.precision, "batch_size": self.batch_size}
        if given := {column: value for column, value in figures.items() if value is not None}:
            test = " AND ".join(f"{column} = ?" for column in given)
            tables = ("speeds",) if "batch_size" in given else ("speeds", "accuracies")
            parts.append(" OR ".join(f"id IN (SELECT entry FROM {table} WHERE {test})" for table in tables))
            values += [*given.values()] * len(tables)
        return ("WHERE " + " AND ".join(f"({part})" for part in parts) if parts else ""), values


def parse_since(text: str, now: datetime | None = None) -> str:
    """A date or time (ISO 8601; without a zone it is this machine's), or how long ago, such as `12h`, `7d`, `2w`, as UTC.

    Raises:
        ValueError: it is neither.
    """
    if ago := re.fullmatch(r"(\d{1,5})([hdw])", text, re.ASCII):
        moment = (now or datetime.now(UTC)) - int(ago[1]) * _AGO[ago[2]]
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"{text!r}: expected a date such as 2026-11-26, or how long ago, such as 12h, 7d or 2w"
            ) from None
    return moment.astimezone(UTC).isoformat(timespec="seconds")
