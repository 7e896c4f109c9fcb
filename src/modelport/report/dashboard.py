"""The history's page: trends, filters and every entry, in one file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ..results.history import AccuracyRow, HistoryRow, SpeedRow
from .charts import SERIES, Chart, draw, plain, script_json, series
from .history import best, gate, top1, when
from .page import page

MOST_FIGURES = 3_000  # rows of the second table; the newest are shown
_DASHES = ("solid", "dot", "dash")  # where there are more lines than colours
_LEGEND = 18  # traces that a legend still helps with


def render_history_html(rows: Sequence[HistoryRow]) -> str:
    """The page.

    Args:
        rows: entries, newest first.
    """
    figures = [(row, figure) for row in rows for figure in (*row.accuracies, *row.speeds)]
    return page(
        "history.html.j2",
        rows=rows,
        cells=[_cells(row) for row in rows],
        figures=[_figure_cells(row, figure) for row, figure in figures[:MOST_FIGURES]],
        left_out=max(0, len(figures) - MOST_FIGURES),
        choices=_choices(rows),
        charts=[chart for chart in (_speeds(rows), _accuracies(rows)) if chart is not None],
        entries=script_json(json.dumps([_entry(row) for row in rows])),
    )


def _cells(row: HistoryRow) -> tuple[str, ...]:
    return (when(row.started), row.kind, row.name, row.model or "—", best(row), top1(row), gate(row), row.place or "")


def _figure_cells(row: HistoryRow, figure: AccuracyRow | SpeedRow) -> dict[str, Any]:
    if isinstance(figure, SpeedRow):
        median = "—" if figure.median_ms is None else f"{figure.median_ms:.3f}"
        cells = (figure.configuration, f"{figure.throughput:,.1f}", median, "")
    else:
        share = "—" if figure.top1 is None else f"{figure.top1 * 100:.2f}"
        e2e = "—" if figure.e2e is None else f"{figure.e2e:,.1f}"
        cells = (f"{figure.target}, from file to TopN", e2e, "", share)
    return {
        "id": row.id,
        "short": row.short,
        "started": when(row.started),
        "name": row.name,
        "cells": cells,
        "doubtful": getattr(figure, "doubtful", None),
        "tags": _tags(figure),
    }


def _tags(figure: AccuracyRow | SpeedRow) -> list[str]:
    """What the filters compare: engine, precision, batch size (empty where it has none)."""
    return [figure.engine, figure.precision, str(figure.batch_size) if isinstance(figure, SpeedRow) else ""]


def _entry(row: HistoryRow) -> dict[str, Any]:
    """What the filters need of an entry."""
    return {
        "id": row.id,
        "kind": row.kind,
        "started": row.started,
        "verdict": row.verdict or "none",
        "text": " ".join(filter(None, [row.id, row.name, row.model, row.place, row.machine])).lower(),
        "figures": [_tags(figure) for figure in (*row.accuracies, *row.speeds)],
    }


def _choices(rows: Sequence[HistoryRow]) -> dict[str, list[str]]:
    """The values that each filter offers."""
    figures = [figure for row in rows for figure in (*row.accuracies, *row.speeds)]
    return {
        "kind": sorted({row.kind for row in rows}),
        "engine": sorted({figure.engine for figure in figures}),
        "precision": sorted({figure.precision for figure in figures}),
        "batch": [
            str(size) for size in sorted({figure.batch_size for figure in figures if isinstance(figure, SpeedRow)})
        ],
        "verdict": [
            name for name in ("passed", "failed", "none") if any((row.verdict or "none") == name for row in rows)
        ],
    }


def _speeds(rows: Sequence[HistoryRow]) -> Chart | None:
    points = [
        (row, speed, f"{row.name}: {speed.configuration}", speed.throughput) for row in rows for speed in row.speeds
    ]
    text = "Images a second of every configuration over time; the figures are in the table of figures below"
    return _trend("throughput", text, points, "images a second")


def _accuracies(rows: Sequence[HistoryRow]) -> Chart | None:
    points = [
        (row, item, f"{row.name}: {item.target}", item.top1 * 100)
        for row in rows
        for item in row.accuracies
        if item.top1 is not None
    ]
    text = "Top-1 accuracy of every target over time; the figures are in the table of figures below"
    return _trend("top1", text, points, "top-1, %")


def _trend(name: str, text: str, points: Sequence[tuple[HistoryRow, Any, str, float]], y_title: str) -> Chart | None:
    """A line for each series, oldest first; points that were measured on a busy machine are hollow."""
    from plotly import graph_objects as go

    by_series: dict[str, list[tuple[HistoryRow, Any, float]]] = {}
    for row, figure, label, value in reversed(points):
        by_series.setdefault(label, []).append((row, figure, value))
    if not by_series:
        return None
    drawing = go.Figure()
    colors = series(len(by_series))
    for number, (label, found) in enumerate(sorted(by_series.items())):
        color, dash = colors[number], _DASHES[number // len(SERIES) % len(_DASHES)]
        drawing.add_scatter(
            name=plain(label),
            x=[row.started[:19] for row, _, _ in found],
            y=[value for _, _, value in found],
            customdata=[row.id for row, _, _ in found],
            text=[plain(f"{row.short}, {when(row.started)}") for row, _, _ in found],
            mode="lines+markers",
            line={"color": color, "width": 1.5, "dash": dash},
            marker={
                "size": 8,
                "color": color,
                "symbol": ["circle-open" if getattr(f, "doubtful", None) else "circle" for _, f, _ in found],
            },
            hovertemplate="%{fullData.name}<br>%{text}<br>%{y:,.2f}<extra></extra>",
            meta=_tags(found[0][1]),
        )
    drawing.update_xaxes(type="date", range=_around([row.started for row, *_ in points]))
    drawing.update_layout(showlegend=len(by_series) <= _LEGEND, hovermode="closest")
    return draw(drawing, name, text, y_title=y_title)


def _around(starts: Sequence[str]) -> list[str] | None:
    """A day before and after, where everything was on one: the chart's own choice would be milliseconds. Else None."""
    first, last = (datetime.fromisoformat(text[:19]) for text in (min(starts), max(starts)))
    if last - first > timedelta(days=1):
        return None
    return [moment.isoformat() for moment in (first - timedelta(days=1), last + timedelta(days=1))]
