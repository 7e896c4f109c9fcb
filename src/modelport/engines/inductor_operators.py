"""AOTInductor's kernels as operators: names and times from PyTorch's profiler, tensors from the package's own wrapper."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..inductor.wrapper import Call, Tensor
from ..results import OperatorFacts, OperatorTensor
from ..spec import Precision

_DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64", "uint8": "u8", "int8": "i8", "int32": "i32",
           "int64": "i64"}  # fmt: skip
_PRECISIONS = {"float32": Precision.F32, "float16": Precision.FP16, "bfloat16": Precision.BF16}
# What a kernel's name holds, and what that makes it; the first that fits. Generated kernels are called after all that they do.
_TYPES = (
    (re.compile(r"memcpy|memset", re.IGNORECASE), "MemcpyAsync"),
    (re.compile(r"convolution|(?<![a-z])conv(?![a-z])|fprop|cudnn|implicit_gemm", re.IGNORECASE), "Convolution"),
    (re.compile(r"linear|addmm|bmm|(?<![a-z])mm(?![a-z])|gemm|cutlass|matmul", re.IGNORECASE), "MatMul"),
    (re.compile(r"pool|(?<![a-z])(?:mean|sum|amax)(?![a-z])"), "FusedPooling"),
    (re.compile(r"norm|relu|(?<![a-z])(?:add|sub|mul|div|sigmoid|silu|gelu|tanh|hard\w*|softmax|exp|clamp)(?![a-z])"), "FusedEltwise"),
    (re.compile(r"(?<![a-z])cat(?![a-z])"), "Concat"),
    (re.compile(r"clone|copy|permute|transpose|view|slice|split"), "Reorder"),
)  # fmt: skip
_GENERATED = "FusedEltwise"  # one whose name does not say: what is generated and not called is elementwise


def read_operators(names: Sequence[str], calls: Sequence[Call], executed: Precision) -> tuple[OperatorFacts, ...]:
    """Operators for the kernels that a round ran.

    Args:
        names: as the profiler tells them, in order.
        calls: as the package's wrapper makes them; without tensors where they are not these kernels one for one.
        executed: precision of the heavy operators.

    Returns:
        One for each name. ONNX names are not known: AOTInductor keeps none.
    """
    matched = len(names) == len(calls) and all(
        name == call.kernel or name.endswith(f"_{call.kernel}") for name, call in zip(names, calls, strict=True)
    )
    found: list[OperatorFacts] = []
    plain = [_plain(name) for name in names]
    for place, name in enumerate(names):
        call = calls[place] if matched else None
        same, number = plain.count(plain[place]), plain[: place + 1].count(plain[place])
        kind = _type(name)
        found.append(
            OperatorFacts(
                name=f"{plain[place]}_{number}" if same > 1 else plain[place],
                type=kind,
                kernel=call.kernel if call else name,
                precision=_precision(call, kind, executed),
                inputs=tuple(map(_tensor, call.inputs)) if call else (),
                outputs=tuple(map(_tensor, call.outputs)) if call else (),
                reads=tuple(found[number].name for number in call.reads) if call else None,
            )
        )
    return tuple(found)


def _plain(name: str) -> str:
    """A kernel's name without what is the same in all of them."""
    return re.sub(r"^(?:graph_\d+_)?(?:aoti_torch_(?:cpu|cuda)_|cpp_)?(?:mkldnn)?_*", "", name) or name


def _type(name: str) -> str:
    return next((kind for pattern, kind in _TYPES if pattern.search(name)), _GENERATED)


def _precision(call: Call | None, kind: str, executed: Precision) -> Precision | None:
    if call is not None and call.outputs:
        return _PRECISIONS.get(call.outputs[0].dtype)
    return executed if kind in ("Convolution", "MatMul") else None


def _tensor(tensor: Tensor) -> OperatorTensor:
    layout = None
    if len(tensor.shape) == 4 and tensor.strides:
        last = tensor.strides[1] == 1 and tensor.shape[1] > 1
        layout = "NHWC" if last else "NCHW"
    return OperatorTensor(
        shape=tensor.shape, dtype=_DTYPES.get(tensor.dtype, tensor.dtype), layout=layout, constant=tensor.constant
    )
