"""ONNX files looked through before a runtime reads them: sizes, counts, nesting, and where their weights lie."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from .. import limits
from ..errors import FormatError
from ..files import open_regular
from ..printable import is_utf8, printable

_GRAPH, _REPEATED = 7, {1: "nodes", 5: "weights"}  # fields of ModelProto and GraphProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types
_COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)  # two numbers an element
_DATA = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def read_model(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """An ONNX file's structure, without the weights that lie beside it, found harmless to read on.

    Args:
        path: the file.
        weights: off for a graph whose weights were left out: nobody is to read them.

    Raises:
        FormatError: no ONNX file; larger, deeper or of more parts than is accepted; weights outside its directory, outside
            their file, or of other sizes than their data.
    """
    if not is_utf8(path):
        raise FormatError(f"{path}: is not a name in UTF-8, and ONNX's own code opens no other: rename it")
    _check_size(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # protobuf's decode error differs between its implementations
        raise FormatError(f"{path}: is not an ONNX file ({type(error).__name__})") from error
    nodes, tensors = 0, 0
    for depth, nodes_here, tensors_here in _parts(model):
        if depth > limits.ONNX_DEPTH:
            raise FormatError(f"{path}: has graphs inside operators more than {limits.ONNX_DEPTH} deep")
        nodes += len(nodes_here)
        tensors += len(tensors_here)
        for tensor in tensors_here if weights else ():
            _check_tensor(path, tensor)
        _refuse_more(path, nodes, limits.ONNX_NODES, "nodes")
        _refuse_more(path, tensors, limits.ONNX_TENSORS, "weights")
    return model


def _refuse_more(path: Path, count: int, most: int, what: str) -> None:
    if count > most:
        raise FormatError(f"{path}: has more than {most:,} {what}; that is no image classifier")


def _check_size(path: Path) -> None:
    """The file's size, and how many nodes and weights its main graph has, which are counted without being built."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limits.ONNX_BYTES:
                raise FormatError(f"{path}: has {size:,} bytes, more than an ONNX file can; weights may lie beside it")
            if size == 0:
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                counts = dict.fromkeys(_REPEATED, 0)
                for field, start, stop in _fields(data, 0, size):
                    for inner, _, _ in _fields(data, start, stop) if field == _GRAPH else ():
                        if inner in counts:
                            counts[inner] += 1
                            _refuse_more(path, counts[inner], limits.ONNX_NODES, _REPEATED[inner])
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error


def _fields(data: mmap.mmap, place: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Each field of a protobuf message that has a length: its number, and where its content begins and ends.

    Ends early where the bytes are no protobuf: its own reader says so.
    """
    while place < stop:
        key, place = _varint(data, place, stop)
        kind = key & 7
        if kind == _VARINT:
            _, place = _varint(data, place, stop)
        elif kind == _BYTES:
            length, place = _varint(data, place, stop)
            if place + length > stop:
                return
            yield key >> 3, place, place + length
            place += length
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            return


def _varint(data: mmap.mmap, place: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while place < stop and shift < 70:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    return 0, stop


_Part = tuple[int, Iterable[onnx.NodeProto], list[onnx.TensorProto]]


def _parts(model: onnx.ModelProto) -> Iterator[_Part]:
    """Every graph and function, inner ones included: its depth, its nodes and its tensors."""
    waiting = [(0, model.graph), *((0, function) for function in model.functions)]
    waiting += [(0, graph) for info in model.training_info for graph in (info.initialization, info.algorithm)]
    while waiting:
        depth, part = waiting.pop()
        tensors = list(getattr(part, "initializer", ()))
        sparse = list(getattr(part, "sparse_initializer", ()))
        for node in part.node:
            for attribute in node.attribute:
                tensors += [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else ())]
                sparse += [
                    *attribute.sparse_tensors,
                    *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ()),
                ]
                inner = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())]
                waiting += [(depth + 1, graph) for graph in inner]
        tensors += [half for tensor in sparse for half in (tensor.values, tensor.indices)]
        yield depth, part.node, tensors


def _check_tensor(path: Path, tensor: onnx.TensorProto) -> None:
    """Its shape and data must agree, wherever the data lie."""
    where = f"{path}: weight {printable(tensor.name)[:80]!r}"
    if len(tensor.dims) > limits.TENSOR_DIMENSIONS or any(dim < 0 for dim in tensor.dims):
        raise FormatError(f"{where} has shape {list(tensor.dims)[:8]}, which no tensor has")
    bits = _bits(tensor)
    wanted = None if bits is None else -(-math.prod(tensor.dims) * bits // 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        found = _external_bytes(path, tensor, where, wanted or 0)
    elif tensor.HasField("raw_data"):
        found = len(tensor.raw_data)
    else:
        numbers = sum(len(getattr(tensor, field)) for field in _DATA)
        elements = math.prod(tensor.dims) * (2 if tensor.data_type in _COMPLEX else 1)
        packed = bits is not None and bits < 8
        if numbers == 0 < elements or (numbers != elements and not packed):
            raise FormatError(f"{where} has shape {list(tensor.dims)[:8]} and {numbers:,} numbers")
        return
    if wanted is not None and found is not None and found != wanted:
        raise FormatError(
            f"{where} has shape {list(tensor.dims)[:8]}, which takes {wanted:,} bytes, and holds {found:,}"
        )


def _bits(tensor: onnx.TensorProto) -> int | None:
    """Bits of one element; None for what has no fixed size, or is not known."""
    name = (
        onnx.TensorProto.DataType.Name(tensor.data_type)
        if tensor.data_type in onnx.TensorProto.DataType.values()
        else ""
    )
    if name in ("", "UNDEFINED", "STRING"):
        return None
    if name in ("UINT4", "INT4", "FLOAT4E2M1"):
        return 4
    if name in ("UINT2", "INT2"):
        return 2
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8


def _external_bytes(path: Path, tensor: onnx.TensorProto, where: str, wanted: int) -> int | None:
    """How many bytes a weight in another file has; None where the file is not there, which the checker tells."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    home, told = path.parent.resolve(), printable(location)[:200]
    if "\0" in location or not (target := (path.parent / location).resolve()).is_relative_to(home):
        raise FormatError(f"{where} points to {told!r}, outside the model's directory")
    try:
        offset = int(entries.get("offset", 0))
        end = offset + int(entries.get("length", wanted))
        size = target.stat().st_size if target.is_file() else None
    except (ValueError, OSError) as error:
        raise FormatError(f"{where} has an offset or length in {told!r} that is no number") from error
    if size is None:
        return None
    if not 0 <= offset <= end <= size:
        raise FormatError(f"{where} lies at {offset:,} to {end:,} of {told!r}, which has {size:,} bytes")
    return end - offset
