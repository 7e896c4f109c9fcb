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


@dataclass(frozen=True, slots=True)
class Figure:
    """A contestant's rates, one per turn, and their ratio to the baseline's of the same turn: median, least, most."""

    name: str
    rate: tuple[float, float, float]
    ratio: tuple[float, float, float]


def interleave(contestants: dict[str, Callable[[], int]], *, turns: int, seconds: float) -> list[Figure]:
    """Time each contestant `turns` times for about `seconds`; the first is the baseline.

    Args:
        contestants: by name; each call does some work and says how many images that was.
        turns: how often each has its turn.
        seconds: least length of a turn.
    """
    for work in contestants.values():
        work()  # warmup
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, work in contestants.items():
            done, begin = 0, perf_counter()
            while (passed := perf_counter() - begin) < seconds:
                done += work()
            rates[name].append(done / passed)
    base = np.array(rates[next(iter(rates))])
    return [Figure(name, _spread(np.array(found)), _spread(np.array(found) / base)) for name, found in rates.items()]


def show(title: str, figures: list[Figure], unit: str = "img/s") -> None:
    """Print a table."""
    table = Table(
        "contestant", f"median {unit}", "least – most", "÷ first", "least – most", title=title, title_justify="left"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for figure in figures:
        rate, ratio = figure.rate, figure.ratio
        table.add_row(
            figure.name,
            f"{rate[0]:,.1f}",
            f"{rate[1]:,.1f} – {rate[2]:,.1f}",
            f"{ratio[0]:.2f}",
            f"{ratio[1]:.2f} – {ratio[2]:.2f}",
        )
    Console(width=130).print(table)


def save(path: Path, sections: dict[str, list[Figure]], environment: dict[str, object]) -> None:
    """Write everything as JSON."""
    plain = {title: [asdict(figure) for figure in figures] for title, figures in sections.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": environment, "figures": plain}, indent=2) + "\n", encoding="utf-8")


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    return float(np.median(values)), float(values.min()), float(values.max())
