"""What a pass over a graph is, and what is checked of every one of them: nothing that others rely on may change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveInitializersFromInputsPass, RemoveUnusedNodesPass

_CONSTANT_WEIGHTS_FROM = 4  # IR version; before it weights had to be listed among the inputs


class BrokenRewriteError(Exception):
    """A pass made a graph that is not valid, or that has other inputs, outputs or metadata: the rewrite must be dropped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewrite:
    """A rewritten graph.

    Attributes:
        model: the new graph; the old one is untouched.
        sites: places that were rewritten.
        refused: places that looked alike and were left, each with the reason.
    """

    model: onnx.ModelProto
    sites: int
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DoesNotApply:
    """Why a pass has nothing to rewrite."""

    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a pass did in place: places rewritten, and places refused, each with the reason."""

    sites: int
    refused: tuple[str, ...] = ()


class GraphPass(ABC):
    """One rewrite that leaves a graph's function as it is, exactly in real arithmetic and to rounding in float32.

    A pass is deterministic: the same graph gives the same bytes. It never changes inputs, outputs, metadata or opset, and
    tensors that other operators read keep their names. What it computes is proven elsewhere (`measure.equality`).

    Attributes:
        name: as it is chosen by.
        summary: what it does, in a few words.
        rule: why it may be applied unmeasured; None for a pass that trades one cost for another.
        oldest_opset: of the default operator set.
        nothing: the reason where a graph holds no such place at all.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    rule: ClassVar[str | None]
    oldest_opset: ClassVar[int] = 7  # from there on binary operators broadcast as NumPy's do
    nothing: ClassVar[str]

    @property
    def label(self) -> str:
        """The name, with the parameter of a pass that has one."""
        return self.name

    @classmethod
    def variants(cls, width: int | None) -> tuple[GraphPass, ...]:
        """The passes that a name stands for, in the order to try them; for a pass with a width, None takes each worth trying."""
        return (cls(),)

    def apply(self, model: onnx.ModelProto) -> Rewrite | DoesNotApply:
        """Rewrite a graph.

        Raises:
            BrokenRewriteError: the result is not valid, or has other inputs, outputs or metadata.
        """
        if (opset := _opset(model)) < self.oldest_opset:
            return DoesNotApply(f"needs opset {self.oldest_opset} or later, the file has {opset}")
        work = ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))
        work.ir_version = max(work.ir_version, _CONSTANT_WEIGHTS_FROM)
        RemoveInitializersFromInputsPass()(work)  # a classifier's weights are no inputs, however old the file
        found = self._rewrite(work)
        if not found.sites:
            return DoesNotApply("; ".join(found.refused) or self.nothing)
        RemoveUnusedNodesPass()(work)
        result = ir.to_proto(work)
        _require_same(self.label, model, result)
        _declare_alike(model.graph, result.graph)
        return Rewrite(model=result, sites=found.sites, refused=found.refused)

    @abstractmethod
    def _rewrite(self, model: ir.Model) -> Found:
        """Rewrite a graph in place, shapes inferred as far as ONNX can. Operators left without a reader are removed after."""


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """How many operators of each type a graph has, most first, constants left out."""
    counts = Counter(node.op_type for node in model.graph.node if node.op_type != "Constant")
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _require_same(label: str, before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(after)
    except onnx.checker.ValidationError as error:
        raise BrokenRewriteError(
            f"{label} made a graph that is not valid: {str(error).strip().splitlines()[0]}"
        ) from error
    for what, ours, theirs in (
        ("inputs", _types(_inputs(before.graph)), _types(_inputs(after.graph))),
        ("outputs", _types(before.graph.output), _types(after.graph.output)),
        ("metadata", _metadata(before), _metadata(after)),
        ("opset", _opset(before), _opset(after)),
    ):
        if ours != theirs:
            raise BrokenRewriteError(f"{label} changed the graph's {what}")


def _declare_alike(before: onnx.GraphProto, after: onnx.GraphProto) -> None:
    """Shapes of inputs and outputs as the original declares them: inference may know more, and names dimensions itself."""
    for ours, theirs in ((_inputs(before), _inputs(after)), (before.output, after.output)):
        for old, new in zip(ours, theirs, strict=True):
            new.CopyFrom(old)


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _types(values: Iterable[onnx.ValueInfoProto]) -> list[tuple[str, int]]:
    return [(value.name, value.type.tensor_type.elem_type) for value in values]


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}
