"""An operator profile as CSV in the columns of today's `msprof`, so that tools which read its files read ours.

Medians of all rounds stand for one iteration. What a processor has not (a number of blocks, a context) is `N/A`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .. import files
from ..results import OperatorTensor
from ..results.profile import Operator, ProfileResult
from .op_csv import ABSENT, DTYPES, TO_LOGICAL

SUMMARY_COLUMNS = (
    "Device_id", "Model ID", "Task ID", "Stream ID", "Op Name", "OP Type", "OP State", "Task Type", "Task Start Time(us)",
    "Task Duration(us)", "Task Wait Time(us)", "Block Num", "Mix Block Num", "HF32 Eligible", "Input Shapes",
    "Input Data Types", "Input Formats", "Output Shapes", "Output Data Types", "Output Formats", "Context ID",
)  # fmt: skip
STATISTIC_COLUMNS = (
    "Device_id", "OP Type", "Core Type", "Count", "Total Time(us)", "Min Time(us)", "Avg Time(us)", "Max Time(us)", "Ratio(%)",
)  # fmt: skip


def write_op_csv(result: ProfileResult, directory: Path) -> None:
    """Write `op_summary_{device}_1.csv` and `op_statistic_{device}_1.csv`: medians of all rounds."""
    device = result.devices[0]
    end, rows = 0.0, []
    for number, operator in enumerate(result.operators):
        rows.append([*_summary_row(operator, number, end, result)])
        end = operator.start_us + operator.duration_us
    _write(directory / f"op_summary_{device}_1.csv", SUMMARY_COLUMNS, rows)
    statistics = [
        [
            *(str(device), each.type, _core(result, next(o for o in result.operators if o.type == each.type))),
            *(str(each.count), *(f"{v:.3f}" for v in (each.total_us, each.min_us, each.mean_us, each.max_us))),
            f"{each.share * 100:.3f}",
        ]
        for each in result.types
    ]
    _write(directory / f"op_statistic_{device}_1.csv", STATISTIC_COLUMNS, statistics)


def _summary_row(operator: Operator, number: int, end_before: float, result: ProfileResult) -> Iterator[str]:
    yield from (str(result.devices[0]), "1", str(number), "0", operator.name, operator.type, "static")
    yield _core(result, operator)
    wait = max(0.0, operator.start_us - end_before)
    yield from (f"{value:.3f}" for value in (operator.start_us, operator.duration_us, wait))
    yield from (ABSENT, ABSENT, "NO")
    for tensors in (operator.inputs, operator.outputs):
        if not tensors:
            yield from (ABSENT,) * 3
            continue
        yield ";".join(",".join(map(str, _stored(tensor))) for tensor in tensors)
        yield ";".join(_dtype_name(tensor.dtype) for tensor in tensors)
        yield ";".join(tensor.layout or ABSENT for tensor in tensors)
    yield ABSENT


def _core(result: ProfileResult, operator: Operator) -> str:
    return operator.kernel if result.origin == "msprof" else "CPU"


def _stored(tensor: OperatorTensor) -> tuple[int, ...]:
    order = TO_LOGICAL.get(tensor.layout or "")
    if order is None or len(tensor.shape) != len(order):
        return tensor.shape
    return tuple(tensor.shape[order.index(axis)] for axis in range(len(order)))


def _dtype_name(dtype: str) -> str:
    return next((name for name, ours in DTYPES.items() if ours == dtype), dtype.upper())


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    files.write_text(path, text.getvalue())
