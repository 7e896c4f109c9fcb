"""What an operator is: one kernel call of an engine, with its tensors, its place in the dataflow and its origin."""

from __future__ import annotations

import math
from typing import Literal

from ..spec import Precision
from .base import Result

Kind = Literal["convolution", "matmul", "pooling", "elementwise", "movement", "other"]

DTYPE_BYTES = {
    "f64": 8, "f32": 4, "f16": 2, "bf16": 2, "i64": 8, "u64": 8, "i32": 4, "u32": 4, "i16": 2, "u16": 2, "i8": 1, "u8": 1,
    "bool": 1,
}  # fmt: skip


class OperatorTensor(Result):
    """One input or output of an operator.

    Attributes:
        shape: in the order N, C, H, W (of weights: out, in, height, width) whatever the layout, but as the device lays it out
            where the layout is a device's own, such as NC1HWC0.
        dtype: such as f32, bf16, u8; what the source says where it is none of `DTYPE_BYTES`.
        layout: such as NCHW, NHWC, NCHWc or ND; None where it is not known.
        constant: a weight, not computed by the graph.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: str | None = None
    constant: bool = False

    @property
    def elements(self) -> int:
        """Number of values; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def text(self) -> str:
        """Such as `1x64x32x32 NHWC`."""
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"{shape} {self.layout}" if self.layout not in (None, "ND") else shape


class OperatorFacts(Result):
    """One operator as the engine runs it, without any time.

    Attributes:
        name: the engine's, unique in the model.
        type: the engine's name of what it does.
        kernel: the engine's implementation of it.
        precision: arithmetic it executes in; None where that is none of ours, or unknown.
        inputs, outputs: its tensors, weights among the inputs.
        reads: names of the operators whose results it reads; None where the source of the profile does not say.
        source: names of the ONNX nodes that it computes, in the graph's order; empty for what the engine added, or where
            nothing is known.
        source_types: their types, one for each.
    """

    name: str
    type: str
    kernel: str
    precision: Precision | None
    inputs: tuple[OperatorTensor, ...]
    outputs: tuple[OperatorTensor, ...]
    reads: tuple[str, ...] | None = None
    source: tuple[str, ...] = ()
    source_types: tuple[str, ...] = ()

    @property
    def weight(self) -> OperatorTensor | None:
        """The largest constant input of two axes or more."""
        weights = [tensor for tensor in self.inputs if tensor.constant and len(tensor.shape) > 1]
        return max(weights, key=lambda tensor: tensor.elements, default=None)
