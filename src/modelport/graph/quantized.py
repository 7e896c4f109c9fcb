"""Quantised ONNX files (QDQ): telling one, and the calibration in its metadata."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from ..calibration import CalibrationRecord
from ..schema import parse_json

_KEY = "modelport.calibration"  # metadata_props entry that holds the CalibrationRecord as JSON
_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def is_quantized(path: Path) -> bool:
    """Whether an ONNX file holds quantised operators (QDQ)."""
    model = onnx.load(path, load_external_data=False)
    return any(node.op_type in _QUANTIZERS for node in model.graph.node)


def read_calibration(path: Path) -> CalibrationRecord | None:
    """The record in an ONNX file's metadata; None where modelport did not quantise it."""
    for entry in onnx.load(path, load_external_data=False).metadata_props:
        if entry.key == _KEY:
            where = f"{path}: metadata {_KEY}"
            return CalibrationRecord.parse(parse_json(entry.value, where), where)
    return None


def stamp(model: onnx.ModelProto, record: CalibrationRecord) -> None:
    """Put the record into an ONNX model's metadata."""
    kept = [entry for entry in model.metadata_props if entry.key != _KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=_KEY, value=json.dumps(record.jsonable()))
