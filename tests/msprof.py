"""Profiles as Ascend's `msprof` writes them, of the network in the reference guide's chapter 7: its first stage at batch 32.

A convolution's result is split in a layout that the chip does not compute in, so TransData stand around StridedSliceD.
"""

from __future__ import annotations

import csv
from pathlib import Path

# name, type, start µs, duration µs, inputs, outputs; a tensor is shape, type, format
_FIVE = "32,{},56,56,16", "FLOAT16", "NC1HWC0"
_FOUR = "32,{},56,56", "FLOAT16", "NCHW"
_IMAGES = "32,1,224,224,16", "FLOAT16", "NC1HWC0"
_STEM = "32,4,112,112,16", "FLOAT16", "NC1HWC0"


def _t(form: tuple[str, str, str], channels: int) -> tuple[str, str, str]:
    return form[0].format(channels), form[1], form[2]


def _w(blocks: int, width: int) -> tuple[str, str, str]:
    return f"{blocks},{width},16,16", "FLOAT16", "FRACTAL_Z"


def _n(shape: str) -> tuple[str, str, str]:
    return shape, "FLOAT16", "FRACTAL_NZ"


OPERATORS = (
    ("trans_TransData_0", "TransData", 0.0, 900.0, [("32,3,224,224", "FLOAT16", "NCHW")], [_IMAGES]),
    ("Conv_0LeakyRelu_1", "Conv2D", 905.5, 1500.0, [_IMAGES, _w(49, 4)], [_STEM]),
    ("MaxPool_2", "MaxPool", 2410.0, 300.0, [_STEM], [_t(_FIVE, 4)]),
    ("Conv_3", "Conv2D", 2712.0, 800.0, [_t(_FIVE, 4), _w(4, 16), ("256", "FLOAT", "ND")], [_t(_FIVE, 16)]),
    ("trans_TransData_5", "TransData", 3513.0, 2100.0, [_t(_FIVE, 16)], [_t(_FOUR, 256)]),
    ("Slice_5", "StridedSliceD", 5614.0, 1300.0, [_t(_FOUR, 256)], [_t(_FOUR, 128)]),
    ("trans_TransData_8", "TransData", 6915.0, 1900.0, [_t(_FOUR, 128)], [_t(_FIVE, 8)]),
    ("Slice_4", "StridedSliceD", 8816.0, 1250.0, [_t(_FOUR, 256)], [_t(_FOUR, 128)]),
    ("trans_TransData_10", "TransData", 10067.0, 1850.0, [_t(_FOUR, 128)], [_t(_FIVE, 8)]),
    ("Conv_6LeakyRelu_7", "Conv2D", 11918.0, 700.0, [_t(_FIVE, 8), _w(8, 8)], [_t(_FIVE, 8)]),
    ("Conv_8LeakyRelu_9", "Conv2D", 12619.0, 1400.0, [_t(_FIVE, 8), _w(9, 8)], [_t(_FIVE, 8)]),
    ("Concat_10", "ConcatD", 14020.0, 600.0, [_t(_FIVE, 8), _t(_FIVE, 8)], [_t(_FIVE, 16)]),
    ("Conv_11LeakyRelu_12", "Conv2D", 14621.0, 1600.0, [_t(_FIVE, 16), _w(16, 16)], [_t(_FIVE, 16)]),
    ("GlobalAveragePool_13", "ReduceMeanD", 16222.0, 200.0, [_t(_FIVE, 16)], [("32,16,1,1,16", "FLOAT16", "NC1HWC0")]),
    ("Gemm_15", "MatMulV2", 16423.0, 40.0, [_n("16,2,16,16"), _n("16,63,16,16")], [_n("63,2,16,16")]),
    ("trans_Cast_16", "Cast", 16464.0, 15.0, [("32,1000", "FLOAT16", "ND")], [("32,1000", "FLOAT", "ND")]),
)  # fmt: skip
TODAY = (
    "Device_id,Model ID,Task ID,Stream ID,Op Name,OP Type,OP State,Task Type,Task Start Time(us),Task Duration(us),"
    "Task Wait Time(us),Block Num,Mix Block Num,HF32 Eligible,Input Shapes,Input Data Types,Input Formats,Output Shapes,"
    "Output Data Types,Output Formats,Context ID,aicore_time(us),total_cycles"
)
GUIDE = (
    "Model Name,Model ID,Task ID,Stream ID,Infer ID,Op Name,OP Type,Task Type,Task Start Time,Task Duration(us),"
    "Task Wait Time(us),Block Dim,Input Shapes,Input Data Types,Input Formats,Output Shapes,Output Data Types,Output Formats,"
    "aicore_time(us),total_cycles"
)
EPOCH_US = 1_700_000_000_000_000


def rows(*, factor: float = 1.0, start: int = EPOCH_US) -> list[dict[str, str]]:
    """Cells by column, all columns of all versions; durations times `factor`."""
    found = []
    for number, (name, kind, at, duration, inputs, outputs) in enumerate(OPERATORS):
        cells = {
            "Device_id": "0", "Model Name": "cspresnext_bs32", "Model ID": "1", "Task ID": str(number), "Stream ID": "3",
            "Infer ID": "1", "Op Name": name, "OP Type": kind, "OP State": "static", "Task Type": "AI_CORE",
            "Task Start Time(us)": f"{start + at:.3f}\t", "Task Start Time": f"{start + at:.3f}\t",
            "Task Duration(us)": f"{duration * factor:.3f}", "Task Wait Time(us)": "1.0", "Block Num": "2", "Block Dim": "2",
            "Mix Block Num": "0", "HF32 Eligible": "NO", "Context ID": "N/A", "aicore_time(us)": f"{duration * 0.9:.3f}",
            "total_cycles": "N/A",
        }  # fmt: skip
        for side, tensors in (("Input", inputs), ("Output", outputs)):
            for what, part in (("Shapes", 0), ("Data Types", 1), ("Formats", 2)):
                cells[f"{side} {what}"] = ";".join(tensor[part] for tensor in tensors)
        found.append(cells)
    return found


def write(path: Path, found: list[dict[str, str]], header: str = TODAY) -> Path:
    """Write lines with the columns of `header`."""
    names = header.split(",")
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([names, *([cells[name] for name in names] for cells in found)])
    return path
