"""Valid documents for every record, made from the records' own fields."""

from __future__ import annotations

import enum
import json
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from modelport.recipe import InferenceSection, ModelSection
from modelport.results import GateCheck, ReferenceAccuracy
from modelport.results.profile import Operator
from modelport.spec import ModelSpec, Preprocess

# Where a record demands more than its fields' types say.
_SPECIAL: dict[type, dict[str, Any]] = {
    Preprocess: {"input_size": [3, 32, 32], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    ModelSpec: {"num_classes": 3, "class_names": ["cat", "dog", "crane"]},
    InferenceSection: {"isolate": True},
    ModelSection: {"arch": "cspresnext50", "checkpoint": "weights.pth", "random_weights": False, "onnx": None},
    GateCheck: {"unit": "points"},
    ReferenceAccuracy: {"top1": 80.05, "top5": 94.94},
    Operator: {"durations_us": [10.5, 11.25]},
}
_PLAIN = {str: "text", int: 16, float: 0.5, bool: False, bytes: "text", Path: "images", types.NoneType: None, Any: 1}


def document(record: type[BaseModel]) -> dict[str, Any]:
    """A valid document of this record, every field filled in."""
    special = _SPECIAL.get(record, {})
    return {
        name: special[name] if name in special else _value(field.annotation)
        for name, field in record.model_fields.items()
    }


def text(record: type[BaseModel]) -> bytes:
    """It as JSON."""
    return json.dumps(document(record)).encode()


def _value(kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return arguments[0]
    if origin in (Annotated, Union, types.UnionType):
        return _value(arguments[0])
    if origin is tuple:
        return [_value(arguments[0])] if arguments[-1] is ... else [_value(each) for each in arguments]
    if origin is dict:
        return {_value(arguments[0]): _value(arguments[1])}
    if issubclass(kind, BaseModel):
        return document(kind)
    return next(iter(kind)).value if issubclass(kind, enum.Enum) else _PLAIN[kind]
