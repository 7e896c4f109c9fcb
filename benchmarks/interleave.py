"""Timing several contestants in turn, A B C A B C …, so that a machine whose speed drifts drifts for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

Spread = tuple[float, float, float]  # median, least, most


@dataclass(frozen=True, slots=True)
class Figure:
    """A contestant's rates, one per turn, those of the baseline in the same turns, and the machine's limit if it is known."""

    name: str
    rates: tuple[float, ...]
    base: tuple[float, ...]
    limits: tuple[float, ...] = ()

    @property
    def rate(self) -> Spread:
        """Images a second."""
        return _spread(np.array(self.rates))

    @property
    def ratio(self) -> Spread:
        """To the baseline, turn by turn."""
        return _spread(np.array(self.rates) / np.array(self.base))

    @property
    def share(self) -> Spread | None:
        """Of its limit, turn by turn."""
        return _spread(np.array(self.rates) / np.array(self.limits)) if self.limits else None

    def over(self, other: Figure) -> Spread:
        """Its rate ÷ another's, turn by turn."""
        return _spread(np.array(self.rates) / np.array(other.rates))

    def limited(self, limits: tuple[float, ...]) -> Figure:
        """The same with limits, one per turn."""
        return Figure(self.name, self.rates, self.base, limits)


Work = Callable[[], int | tuple[int, float]]


def interleave(contestants: dict[str, Work], *, turns: int, seconds: float) -> list[Figure]:
    """Time each contestant `turns` times for about `seconds`; the first is the baseline.

    Args:
        contestants: by name; each call does some work and says how many images that was, and in how many seconds where
            it has a clock of its own.
        turns: how often each has its turn.
        seconds: least length of a turn.
    """
    for work in contestants.values():
        work()  # warmup
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, work in contestants.items():
            done, passed = 0, 0.0
            while passed < seconds:
                images, took = _timed(work)
                done, passed = done + images, passed + took
            rates[name].append(done / passed)
    base = tuple(next(iter(rates.values())))
    return [Figure(name, tuple(found), base) for name, found in rates.items()]


def _timed(work: Work) -> tuple[int, float]:
    begin = perf_counter()
    done = work()
    return done if isinstance(done, tuple) else (done, perf_counter() - begin)


def show(title: str, figures: list[Figure]) -> None:
    """Print a table."""
    shares = any(figure.limits for figure in figures)
    columns = ["contestant", "median img/s", "least – most", "÷ first", "least – most"]
    table = Table(*columns, *(["of its limit", "least – most"] if shares else []), title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for figure in figures:
        cells = [*_cells(figure.rate, ",.1f"), *_cells(figure.ratio, ".2f")]
        table.add_row(figure.name, *cells, *(_cells(figure.share, ".1%") if figure.share else []))
    Console(width=140).print(table)


def save(path: Path, sections: dict[str, list[Figure]], more: dict[str, object]) -> None:
    """Write everything as JSON."""
    plain = {title: [asdict(figure) for figure in figures] for title, figures in sections.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**more, "figures": plain}, indent=2) + "\n", encoding="utf-8")


def _cells(spread: Spread, form: str) -> tuple[str, str]:
    return format(spread[0], form), f"{spread[1]:{form}} – {spread[2]:{form}}"


def _spread(values: np.ndarray) -> Spread:
    return float(np.median(values)), float(values.min()), float(values.max())
