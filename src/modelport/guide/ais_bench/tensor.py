"""Inputs and outputs as ais_bench describes them, and arrays made to fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod

import numpy as np

from ...offline import TensorSpec

_RAW = (np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.float64))  # flat ones are bytes; np.frombuffer makes float64


class Format(IntEnum):
    """Layouts by the numbers that ACL gives them."""

    NCHW = 0
    NHWC = 1
    ND = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorDesc:
    """One input or output, with the fields of aclruntime's `tensor_desc`.

    Attributes:
        name: of the tensor.
        datatype: NumPy's; `datatype.name` is `float32`, as aclruntime's is.
        format: layout; anything that is no image is ND.
        shape: batch first.
        size: bytes.
        realsize: bytes that a feed must have; static models have no other.
    """

    name: str
    datatype: np.dtype
    format: Format
    shape: list[int]
    size: int
    realsize: int

    @classmethod
    def of(cls, tensor: TensorSpec) -> TensorDesc:
        """What the manifest says of a tensor."""
        dtype = np.dtype(tensor.dtype)
        size = nbytes(dtype, tensor.shape)
        layout = Format.__members__.get(tensor.layout, Format.ND)
        return cls(name=tensor.name, datatype=dtype, format=layout, shape=list(tensor.shape), size=size, realsize=size)

    def __str__(self) -> str:
        return f"{self.name}  {tuple(self.shape)}  {self.datatype}  {self.size}  {self.realsize}"


def fit(array: np.ndarray, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray | None:
    """The array as this dtype and shape, where that changes none of its bytes and nothing speaks against it.

    Accepted are the shape itself, with more or fewer leading ones, and a flat array of as many bytes: of that dtype, or of
    int8, uint8 or float64, which `np.frombuffer` makes of anything.

    Returns:
        None where it does not fit.
    """
    if array.ndim == 1 and (array.dtype == dtype or array.dtype in _RAW) and array.nbytes == nbytes(dtype, shape):
        return np.ascontiguousarray(array).view(dtype).reshape(shape)
    if array.dtype == dtype and _significant(array.shape) == _significant(shape):
        return array.reshape(shape)
    return None


def nbytes(dtype: np.dtype, shape: Sequence[int]) -> int:
    """Size of an array."""
    return dtype.itemsize * prod(shape)


def show(dtype: object, shape: Sequence[int]) -> str:
    """Dtype and shape, for errors."""
    return f"{dtype} {'x'.join(map(str, shape)) or 'scalar'}"


def _significant(shape: Sequence[int]) -> tuple[int, ...]:
    first = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[first:])
