"""OpenVINO's operator counters, read: a compiled model's runtime graph and the profile of its infer requests.

The CPU plugin's counters add up whole microseconds, cut off, since the model was compiled or imported, and a profile gives the
total ÷ number of rounds, cut off again (`PerfCount` in its source). So totals are taken before and after a block of rounds of a
freshly imported model; what the cutting costs on average, half a unit each time, is put back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.source import SourceGraph
from ..results import OperatorFacts, OperatorTensor
from ..spec import Precision

CUT_OFF_US = 0.5  # on average, of each round's time of an operator
_ADDED = "/WithoutBiases"  # OpenVINO's name of an ONNX Conv apart from its bias
_PRECISIONS = {"f32": Precision.F32, "bf16": Precision.BF16, "f16": Precision.FP16, "i8": Precision.INT8, "u8": Precision.INT8}  # fmt: skip
_LAYOUTS = {"abcd": "NCHW", "acdb": "NHWC", "aBcd8b": "nChw8c", "aBcd16b": "nChw16c", "abcde": "NCDHW"}
_CONSTANT = ("Const", "Constant")


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of the runtime graph, whose names are the profile's. `layouts` has one entry per output."""

    name: str
    layer: str
    kernel: str
    precision: str
    layouts: tuple[str, ...]
    original: tuple[str, ...]
    op: Any


def read_operators(
    compiled: Any, profile: Iterable[Any], source: SourceGraph, input_layout: str
) -> tuple[OperatorFacts, ...]:
    """The operators that are executed, in order.

    Args:
        compiled: a compiled model.
        profile: `profiling_info` of one of its requests.
        source: the ONNX graph that it was compiled from.
        input_layout: of the model's input, such as NCHW.
    """
    graph = _RuntimeGraph(compiled, source, input_layout)
    executed = {info.node_name: info.node_type for info in profile if _executed(info)}
    return tuple(graph.facts(name, kind, executed) for name, kind in sorted(executed.items(), key=graph.order))


class _RuntimeGraph:
    def __init__(self, compiled: Any, source: SourceGraph, input_layout: str) -> None:
        self._source, self._input_layout = source, input_layout
        self._nodes: dict[str, _Node] = {}
        self._place: dict[str, int] = {}
        self._constants: set[str] = set()
        for op in compiled.get_runtime_model().get_ordered_ops():
            info = {key: value.astype(str) for key, value in op.get_rt_info().items() if hasattr(value, "astype")}
            name = op.get_friendly_name()
            self._nodes[name] = _Node(
                name,
                info["layerType"],
                info["primitiveType"],
                info["runtimePrecision"],
                tuple(info["outputLayouts"].split(",")),
                tuple(info["originalLayersNames"].split(",")),
                op,
            )
            self._place[name] = int(info["execOrder"])
            before = self._before(self._nodes[name])
            if info["layerType"] in _CONSTANT or (before and all(node.name in self._constants for node in before)):
                self._constants.add(name)

    def order(self, item: tuple[str, str]) -> int:
        """Place in the execution."""
        return self._place[item[0]]

    def facts(self, name: str, kind: str, executed: dict[str, str]) -> OperatorFacts:
        node = self._nodes[name]
        found = self._source.find(part.removesuffix(_ADDED) for part in node.original)
        outputs = tuple(self._tensor(node, output, index) for index, output in enumerate(node.op.outputs()))
        return OperatorFacts(
            name=name.removesuffix(_ADDED),
            type=kind,
            kernel=node.kernel,
            precision=_PRECISIONS.get(node.kernel.rpartition("_")[2].lower()) or _PRECISIONS.get(node.precision),
            inputs=tuple(self._read(value) for value in node.op.inputs() if _present(value)),
            outputs=outputs,
            reads=tuple(read.removesuffix(_ADDED) for read in self._reads(node, executed)),
            source=tuple(item.name for item in found),
            source_types=tuple(item.type for item in found),
        )

    def _read(self, value: Any) -> OperatorTensor:
        made = value.get_source_output()
        return self._tensor(self._nodes[made.get_node().get_friendly_name()], made, made.get_index())

    def _tensor(self, node: _Node, output: Any, index: int) -> OperatorTensor:
        shape = tuple(output.get_shape())
        letters = node.layouts[min(index, len(node.layouts) - 1)]
        layout = _LAYOUTS.get(letters, letters) if len(shape) > 3 else "ND"
        if node.layer in ("Input", "Parameter") and letters == "abcd":
            layout = self._input_layout
            if layout == "NHWC":
                shape = tuple(shape[axis] for axis in (0, 3, 1, 2))
        dtype = output.get_element_type().get_type_name().replace("boolean", "bool")
        return OperatorTensor(shape=shape, dtype=dtype, layout=layout, constant=node.name in self._constants)

    def _before(self, node: _Node) -> list[_Node]:
        return [self._nodes[value.get_source_output().get_node().get_friendly_name()] for value in node.op.inputs()]

    def _reads(self, node: _Node, executed: dict[str, str]) -> list[str]:
        """Executed operators whose results it reads, also through nodes that are not executed (a Reshape in place)."""
        found: dict[str, None] = {}
        waiting = self._before(node)
        while waiting:
            read = waiting.pop(0)
            if read.name in executed:
                found[read.name] = None
            else:
                waiting += self._before(read)
        return list(found)


def read_totals(profile: Iterable[Any], rounds: int) -> dict[str, float]:
    """Microseconds of each executed operator over all rounds since the counters began; exact to half a unit per round."""
    return {
        info.node_name.removesuffix(_ADDED): info.real_time.total_seconds() * 1e6 * rounds + (rounds - 1) / 2
        for info in profile
        if _executed(info)
    }


def block_means(before: dict[str, float], after: dict[str, float], names: Iterable[str], rounds: int) -> np.ndarray:
    """Mean microseconds of each operator over a block of rounds, 1 x operators."""
    return np.array([[max(0.0, after[name] - before[name]) / rounds + CUT_OFF_US for name in names]])


def _present(value: Any) -> bool:
    """A bias that a matrix product does without is an input of no type."""
    return value.get_element_type().get_type_name() not in ("dynamic", "undefined")


def _executed(info: Any) -> bool:
    return info.status == type(info).Status.EXECUTED
