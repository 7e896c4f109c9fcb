"""How many operations and bytes an operator takes, estimated from its shapes, and the least time that allows.

A multiplication and an addition are 2 operations. Padding at an image's edges counts as if it were computed, and so do the
channels that a device's layout adds. The roofline is Williams, Waterman and Patterson's (CACM 52(4), 2009).
"""

from __future__ import annotations

from ..results import MachinePeaks, OperatorFacts, OperatorTensor
from ..results.operators import DTYPE_BYTES
from ..results.profile import Operator
from ..spec import Precision
from .kinds import SHAPES, kind_of, plain_type

_WIDTHS = {Precision.F32: 4, Precision.BF16: 2, Precision.FP16: 2, Precision.INT8: 1}
_BACKWARDS = ("transpose", "backprop", "deconvolution")  # in the type of a convolution that spreads each input value


def estimate_flops(facts: OperatorFacts) -> float | None:
    """Operations of one call.

    Convolution: 2 x output values x weights per output channel, which holds for groups as well. Matrix product: 2 x output
    values x inner size. Pooling and reducing: one per input value. Elementwise: one per output value and ONNX node. Moving
    data: none. Activations and additions that are fused into a convolution are left out: a thousandth of its work.

    Returns:
        None where the type or the layout is not known.
    """
    kind = kind_of(facts.type)
    if kind == "movement":
        return 0.0
    if kind == "other" or not facts.inputs or not facts.outputs:
        return None
    made = facts.outputs[0].elements
    if kind == "convolution":
        return _convolution(facts, made)
    if kind == "matmul":
        inner = _inner(facts)
        return 2.0 * made * inner if inner else None
    if kind == "pooling":
        return float(facts.inputs[0].elements)
    nodes = sum(kind_of(name) == "elementwise" for name in facts.source_types)
    return float(made * max(nodes, 1))


def estimate_bytes(facts: OperatorFacts) -> float | None:
    """Bytes that one call reads and writes, each tensor once, weights in the precision that is executed.

    Of what is moved no more is read than is written. Returns None where a data type or all tensors are unknown.
    """
    kind = kind_of(facts.type)
    written = [_bytes(tensor, None) for tensor in facts.outputs]
    heavy = facts.precision if kind in ("convolution", "matmul") else None
    read = [_bytes(tensor, heavy if len(tensor.shape) > 1 else None) for tensor in facts.inputs]
    if not read or not written or None in read or None in written:
        return None
    total = sum(size for size in written if size is not None)
    values = sum(tensor.elements for tensor in facts.outputs)
    if kind == "movement":
        if plain_type(facts.type) in SHAPES:
            return float(2 * total)
        largest = max(facts.inputs, key=lambda tensor: tensor.elements)
        whole = sum(tensor.elements for tensor in facts.inputs)
        width = DTYPE_BYTES[largest.dtype]
        return float(total + min(values, whole) * width)
    return float(total + sum(size for size in read if size is not None))


def group_count(facts: OperatorFacts) -> int | None:
    """Groups of a convolution; None where its layout does not say."""
    weight = _weight(facts)
    if weight is None or not facts.inputs:
        return None
    if facts.type == "GroupConvolution" and len(weight.shape) == 5:  # OpenVINO: groups x out x in x height x width
        return weight.shape[0]
    data = facts.inputs[0]
    if len(weight.shape) != 4 or len(data.shape) != 4 or _is_private(weight) or _is_private(data):
        return None
    channels = data.shape[1]
    return channels // weight.shape[1] if channels % weight.shape[1] == 0 else None


def kernel_size(facts: OperatorFacts) -> tuple[int, int] | None:
    """Height and width of a convolution's kernel; None where its layout does not say."""
    weight = _weight(facts)
    if weight is None or len(weight.shape) not in (4, 5) or _is_private(weight):
        return None
    return weight.shape[-2], weight.shape[-1]


def limit(operator: Operator, peaks: MachinePeaks) -> Operator:
    """The operator with the least time that the peaks allow it, and what sets that."""
    if operator.bytes is None:
        return operator
    memory = operator.bytes / peaks.bandwidth * 1e6
    peak = peaks.operations.get(operator.precision) if operator.precision else None
    compute = operator.flops / peak * 1e6 if operator.flops and peak else 0.0
    if operator.flops and not peak and operator.kind in ("convolution", "matmul"):
        return operator  # its own limit is not known, and memory's would flatter the machine
    bound = "compute" if compute > memory else "memory"
    return operator.model_copy(update={"limit_us": max(compute, memory), "bound": bound})


def _convolution(facts: OperatorFacts, made: int) -> float | None:
    weight = _weight(facts)
    if weight is None:
        return None
    if any(word in facts.type.lower() for word in _BACKWARDS):
        return 2.0 * facts.inputs[0].elements * weight.elements / weight.shape[0]
    channels = _output_channels(facts, weight)
    return 2.0 * made * weight.elements / channels if channels else None


def _output_channels(facts: OperatorFacts, weight: OperatorTensor) -> int | None:
    shape, layout = weight.shape, weight.layout or ""
    if layout.startswith("FRACTAL_Z"):  # C1 H W, N1, N0, C0
        return shape[1] * shape[2] if len(shape) == 4 else None
    if facts.type == "GroupConvolution" and len(shape) == 5:
        return shape[0] * shape[1]
    return shape[0] if len(shape) >= 3 else None


def _inner(facts: OperatorFacts) -> float | None:
    """Size of the axis that a matrix product sums over."""
    weight, made = _weight(facts), facts.outputs[0]
    if weight is None or not made.shape:
        return None
    if weight.constant or _is_private(weight):
        width = made.shape[0] * made.shape[-1] if made.layout == "FRACTAL_NZ" else made.shape[-1]  # N1, M1, M0, N0
        return weight.elements / width if width else None
    return float(facts.inputs[0].shape[-1])


def _weight(facts: OperatorFacts) -> OperatorTensor | None:
    """What the data is multiplied with: the largest constant, or the second input where nothing says what is constant."""
    if facts.weight is not None:
        return facts.weight
    return facts.inputs[1] if len(facts.inputs) > 1 and len(facts.inputs[1].shape) > 1 else None


def _is_private(tensor: OperatorTensor) -> bool:
    return (tensor.layout or "").startswith(("FRACTAL", "NC1HWC0", "C1HWNCoC0", "NDC1HWC0"))


def _bytes(tensor: OperatorTensor, weights: Precision | None) -> int | None:
    if tensor.constant and weights is not None:
        return tensor.elements * _WIDTHS[weights]
    width = DTYPE_BYTES.get(tensor.dtype)
    return None if width is None else tensor.elements * width
