"""A table of text, whatever it is rendered to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table. `numeric` columns are set to the right; `notes` stand below it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numeric: frozenset[int] = frozenset()
    notes: list[str] = field(default_factory=list)


def percent(share: float) -> str:
    """A fraction as a percentage with two places."""
    return f"{share * 100:.2f} %"
