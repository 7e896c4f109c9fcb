"""Operator profiles from the CSV files of Ascend's `msprof`: `op_summary_{device}_{iteration}.csv`, `op_statistic_…`.

Columns are found by their names, whatever their order, so that older versions are read too (`Model Name` for `Device_id`,
`Block Dim`, a start time without its unit). A cell may be `N/A` or end in a TAB; shapes of several tensors have `;` between them.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np

from ..errors import FormatError
from ..natural import natural
from ..results import OperatorFacts, OperatorTensor
from ..schema import read_text
from ..spec import Precision

_NAME, _TYPE, _DURATION = "Op Name", "OP Type", "Task Duration(us)"
ABSENT = "N/A"
_FILE = re.compile(r"op_(?P<what>summary|statistic)(?:_(?P<device>\d+)_(?P<iteration>\d+))?.*\.csv")
DTYPES = {
    "FLOAT": "f32", "FLOAT16": "f16", "BF16": "bf16", "DOUBLE": "f64", "INT8": "i8", "UINT8": "u8", "INT16": "i16",
    "UINT16": "u16", "INT32": "i32", "UINT32": "u32", "INT64": "i64", "UINT64": "u64", "BOOL": "bool",
}  # fmt: skip
_OTHER_NAMES = {"FLOAT32": "FLOAT", "BFLOAT16": "BF16", "FLOAT64": "DOUBLE"}
_PRECISIONS = {"f32": Precision.F32, "f16": Precision.FP16, "bf16": Precision.BF16, "i8": Precision.INT8, "u8": Precision.INT8}  # fmt: skip
# Our shapes are in the order NCHW, msprof's as they are stored.
TO_LOGICAL = {"NHWC": (0, 3, 1, 2), "HWCN": (3, 2, 0, 1)}
_NANOSECONDS = 100  # as many times longer than the operators is a span in nanoseconds, where the header has no unit
_START_DIGITS = 24  # nanoseconds since 1970 have 19
_MOST_AXES, _DIMENSION_DIGITS = 16, 9
log = logging.getLogger("modelport")


@dataclass(frozen=True, slots=True)
class OpSummary:
    """What `op_summary` files tell of one device.

    Attributes:
        device: its number.
        operators: in the order of their start.
        durations_us: of each operator, one time per round.
        gaps_us: rounds x operators, before each one (none before a round's first); None where starts are not told, or not
            of all operators in all rounds.
        spans_s: of each round, first start to last end; empty where starts are not told.
    """

    device: int
    operators: tuple[OperatorFacts, ...]
    durations_us: tuple[tuple[float, ...], ...]
    gaps_us: np.ndarray | None
    spans_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a file. `start` is in the file's unit."""

    where: str
    cells: dict[str, str]
    name: str
    duration_us: float
    start: Decimal | None


def is_op_csv(path: Path) -> bool:
    """Whether a path is a CSV file, or a directory with profile CSVs."""
    return path.suffix.lower() == ".csv" or bool(_files(path, "summary") or _files(path, "statistic"))


def read_op_summary(path: Path) -> OpSummary:
    """Read an `op_summary` file, or those of a directory; lines of the same operator are rounds.

    Raises:
        FormatError: none there, of several devices, or a line is malformed; the message has its number.
    """
    rows = [row for file in _chosen(path) for row in _rows(file)]
    rows = _of_one_model(path, rows)
    device = _device(path, rows)
    rounds: dict[str, list[_Row]] = {}
    if all(row.start is not None for row in rows):
        rows.sort(key=lambda row: row.start or Decimal(0))
    for row in rows:
        rounds.setdefault(row.name, []).append(row)
    operators = tuple(_facts(found[0]) for found in rounds.values())
    durations = tuple(tuple(row.duration_us for row in found) for found in rounds.values())
    gaps, spans = _timeline(list(rounds.values()))
    return OpSummary(device, operators, durations, gaps, spans)


def read_op_statistic(path: Path) -> dict[str, float] | None:
    """Total microseconds by operator type from the `op_statistic` file beside an `op_summary`; None where there is none.

    Raises:
        FormatError: it is malformed; the message has the line's number.
    """
    found = _files(path if path.is_dir() else path.parent, "statistic")
    if not path.is_dir():
        match = _FILE.fullmatch(path.name)
        suffix = path.name.removeprefix("op_summary") if match else None
        found = [file for file in found if file.name == f"op_statistic{suffix}"]
    totals: dict[str, float] = {}
    for file in found:
        for where, cells in _lines(file, (_TYPE, "Total Time(us)")):
            totals[cells[_TYPE]] = totals.get(cells[_TYPE], 0.0) + _number(
                cells["Total Time(us)"], where, "Total Time(us)"
            )
    return totals or None


def _files(directory: Path, what: str) -> list[Path]:
    if not directory.is_dir():
        return []
    named = ((path, _FILE.fullmatch(path.name)) for path in sorted(directory.iterdir()))
    return [path for path, match in named if match and match["what"] == what]


def _chosen(path: Path) -> list[Path]:
    if path.is_dir():
        if found := _files(path, "summary"):
            return found
        raise FormatError(
            f"{path}: holds op_statistic files only, which have sums by type: the op_summary file is needed"
        )
    if (match := _FILE.fullmatch(path.name)) and match["what"] == "statistic":
        raise FormatError(f"{path}: has sums by type only: give the op_summary file")
    return [path]


def _lines(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line's place and its cells by column, without TABs and blanks around."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    header = next(reader, None)
    if not header or not any(cell.strip() for cell in header):
        raise FormatError(f"{path}: is empty, expected a header with {', '.join(needed)}")
    names = [cell.strip() for cell in header]
    if missing := [name for name in needed if name not in names]:
        raise FormatError(f"{path}:1: has no column {missing[0]!r}; it has {', '.join(names)[:200]}")
    found = False
    try:
        for line in reader:
            if not any(cell.strip() for cell in line):
                continue
            where = f"{path}:{reader.line_num}"
            if len(line) < len(names) or any(cell.strip() for cell in line[len(names) :]):
                raise FormatError(f"{where}: has {len(line)} cells, the header has {len(names)}")
            found = True
            yield where, dict(zip(names, (cell.strip() for cell in line), strict=False))
    except csv.Error as error:
        raise FormatError(f"{path}:{reader.line_num}: is not CSV: {error}") from error
    if not found:
        raise FormatError(f"{path}: holds a header and no operators")


def _rows(path: Path) -> list[_Row]:
    rows, untimed = [], 0
    for where, cells in _lines(path, (_NAME, _TYPE, _DURATION)):
        if cells[_DURATION] in ("", ABSENT):
            untimed += 1
            continue
        name = (
            cells[_NAME] if cells[_NAME] not in ("", ABSENT) else f"{cells[_TYPE]} of line {where.rpartition(':')[2]}"
        )
        duration = _number(cells[_DURATION], where, _DURATION)
        rows.append(_Row(where, cells, name, duration, _start(cells, where)))
    if untimed:
        log.warning("%s: %d lines without a duration left out", path, untimed)
    if not rows:
        raise FormatError(f"{path}: no line has a duration")
    return rows


def _start(cells: dict[str, str], where: str) -> Decimal | None:
    """In whatever unit; as a decimal, since microseconds since 1970 leave no digits for their fractions in a float."""
    for name in ("Task Start Time(us)", "Task Start Time(ns)", "Task Start Time"):
        if (text := cells.get(name, ABSENT)) not in ("", ABSENT):
            if (start := _decimal(text)) is None:
                raise FormatError(f"{where}: {name} is {text[:40]!r}, expected a number")
            return start
    return None


def _decimal(text: str) -> Decimal | None:
    """A number with which can be computed; None where it is none, not finite, or of no time that ever was."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() and value.adjusted() < _START_DIGITS else None


def _number(text: str, where: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (0 <= value < float("inf")):
        raise FormatError(f"{where}: {name} is {text[:40]!r}, expected a number from 0")
    return value


def _of_one_model(path: Path, rows: list[_Row]) -> list[_Row]:
    """The lines of the model that took most of the time, where there are several."""
    times: dict[str, float] = {}
    for row in rows:
        key = row.cells.get("Model ID", "")
        times[key] = times.get(key, 0.0) + row.duration_us
    most = max(times, key=lambda key: times[key])
    if others := sorted(set(times) - {most}):
        log.warning("%s: model %s is analysed; left out: model %s", path, most, ", ".join(others))
    return [row for row in rows if row.cells.get("Model ID", "") == most]


def _device(path: Path, rows: Sequence[_Row]) -> int:
    """From the column, or from the files' names; of several devices one has to be chosen."""
    found = {row.cells["Device_id"] for row in rows if row.cells.get("Device_id", ABSENT) not in ("", ABSENT)}
    if not found:
        named = (_FILE.fullmatch(Path(row.where.rpartition(":")[0]).name) for row in rows)
        found = {match["device"] for match in named if match and match["device"]}
    if len(found) > 1:
        raise FormatError(f"{path}: is of devices {', '.join(sorted(found))}: give the op_summary file of one device")
    return natural(next(iter(found), "0")) or 0


def _facts(row: _Row) -> OperatorFacts:
    inputs, outputs = (_tensors(row, side) for side in ("Input", "Output"))
    return OperatorFacts(
        name=row.name,
        type=row.cells[_TYPE],
        kernel=row.cells.get("Task Type", "") or ABSENT,
        precision=_PRECISIONS.get(inputs[0].dtype) if inputs else None,
        inputs=inputs,
        outputs=outputs,
    )


def _tensors(row: _Row, side: str) -> tuple[OperatorTensor, ...]:
    text = row.cells.get(f"{side} Shapes", "").replace('"', "").strip()
    if text in ("", ABSENT):
        return ()
    shapes = text.split(";")
    dtypes, layouts = (_spread(row.cells.get(f"{side} {what}", ""), len(shapes)) for what in ("Data Types", "Formats"))
    return tuple(
        _tensor(row, shape, dtype, layout) for shape, dtype, layout in zip(shapes, dtypes, layouts, strict=True)
    )


def _tensor(row: _Row, text: str, dtype: str, layout: str) -> OperatorTensor:
    try:
        shape = _shape(text)
    except ValueError:
        raise FormatError(f"{row.where}: a shape is {text[:40]!r}, expected numbers with commas between") from None
    name = dtype.upper().removeprefix("DT_")
    order = TO_LOGICAL.get(layout)
    if order is not None and len(shape) == len(order):
        shape = tuple(shape[axis] for axis in order)
    return OperatorTensor(
        shape=shape, dtype=DTYPES.get(_OTHER_NAMES.get(name, name), name.lower()), layout=layout or None
    )


def _shape(text: str) -> tuple[int, ...]:
    """Numbers with commas between; ValueError where it is none that a tensor has, and whose product no float could hold."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > _MOST_AXES or any(len(part) > _DIMENSION_DIGITS for part in parts):
        raise ValueError(text)
    return tuple(map(int, parts))


def _spread(text: str, count: int) -> list[str]:
    parts = [part.strip() for part in text.replace('"', "").split(";")]
    parts = ["" if part == ABSENT else part for part in parts]
    return (parts + [""] * count)[:count]


def _timeline(rounds: Sequence[Sequence[_Row]]) -> tuple[np.ndarray | None, tuple[float, ...]]:
    """Gaps before operators, and the rounds' spans."""
    count = max(len(found) for found in rounds)
    whole = all(len(found) == count and all(row.start is not None for row in found) for found in rounds)
    if not whole:
        return None, ()
    first = min(row.start for found in rounds for row in found if row.start is not None)
    starts = np.array([[float((row.start or first) - first) for row in found] for found in rounds]).T
    durations = np.array([[row.duration_us for row in found] for found in rounds]).T
    starts = starts / _unit(rounds[0][0].cells, starts, durations)
    ends = starts + durations
    gaps = np.zeros_like(starts)
    gaps[:, 1:] = np.maximum(0.0, starts[:, 1:] - np.maximum.accumulate(ends, axis=1)[:, :-1])
    return gaps, tuple(float(value) / 1e6 for value in ends.max(axis=1) - starts.min(axis=1))


def _unit(cells: dict[str, str], starts: np.ndarray, durations: np.ndarray) -> float:
    """What starts are divided by to be microseconds. Without a unit it differs between versions of msprof."""
    if "Task Start Time(us)" in cells:
        return 1.0
    if "Task Start Time(ns)" in cells:
        return 1e3
    span = float((starts.max(axis=1) - starts.min(axis=1)).min())
    return 1e3 if span > _NANOSECONDS * float(durations.sum(axis=1).min()) else 1.0
