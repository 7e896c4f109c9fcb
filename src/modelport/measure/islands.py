"""Finds data movement that computes nothing, groups neighbours into islands, and says which rewrite would remove them.

Neighbours are found by the dataflow where the engine tells it, else by the order of execution. The split and the join of one
cross-stage block are two islands, although a tensor leads directly from one to the other: two rewrites concern them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..results.profile import Island, Operator
from .cost import group_count, kernel_size
from .kinds import ACTIVATIONS, CASTS, JOINERS, LAYOUTS, QUANTIZERS, SHAPES, SPLITS, plain_type

SPLIT, JOIN, MERGE, SIMPLIFY = "split_convolutions", "sum_concat_convolution", "merge_groups", "simplify"
_TRANSPARENT = ("QuantizeLinear", "DequantizeLinear")  # they say in what, not what


def find_islands(operators: Sequence[Operator], input_rewrite: str | None) -> tuple[Island, ...]:
    """All islands that take any time, the most expensive first.

    Args:
        operators: in the order of execution.
        input_rewrite: what brings the input in the form that the model computes in; None where the input has it.
    """
    graph = _Dataflow(operators)
    rules = _Rules(graph, input_rewrite)
    found = [rules.describe(group) for group in graph.groups()]
    return tuple(sorted((island for island in found if island.duration_us > 0), key=lambda island: -island.duration_us))


@dataclass(slots=True)
class _Group:
    """Neighbouring moving operators, in order."""

    members: list[Operator] = field(default_factory=list)
    divides: bool = False


class _Dataflow:
    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = operators
        self.origins_known = any(operator.source for operator in operators)
        self.named = {operator.name: operator for operator in operators}
        self._readers: dict[str, list[Operator]] = {}
        self._reads: dict[str, list[Operator]] = {}
        before: Operator | None = None
        for operator in operators:
            told = operator.reads
            names = [before.name] if told is None and before else told or []
            self._reads[operator.name] = [self.named[name] for name in names if name in self.named]
            for read in self._reads[operator.name]:
                self._readers.setdefault(read.name, []).append(operator)
            before = operator

    def ordered(self, operators: Iterable[Operator]) -> list[Operator]:
        """Each once, in the order of execution."""
        found = {operator.name for operator in operators}
        return [operator for operator in self.operators if operator.name in found]

    def reads(self, operator: Operator) -> list[Operator]:
        return self._reads[operator.name]

    def readers(self, operator: Operator) -> list[Operator]:
        return self._readers.get(operator.name, [])

    def groups(self) -> list[_Group]:
        """Connected moving operators. A join is not connected with a split before it: between them runs the other branch."""
        homes: dict[str, _Group] = {}
        for operator in self.operators:
            if operator.kind != "movement":
                continue
            joins = plain_type(operator.type) in JOINERS and len(self.reads(operator)) > 1
            before = [homes[read.name] for read in self.reads(operator) if read.name in homes]
            mine = [group for group in before if not (joins and group.divides)]
            home = mine[0] if mine else _Group()
            for other in mine[1:]:
                if other is not home:
                    home.members += other.members
                    home.divides |= other.divides
            home.members.append(operator)
            home.divides |= plain_type(operator.type) in SPLITS
            homes |= {member.name: home for member in home.members}
        unique = {id(group): group for group in homes.values()}
        return list(unique.values())


class _Rules:
    """What stands around an island, and what follows from it."""

    def __init__(self, graph: _Dataflow, input_rewrite: str | None) -> None:
        self._graph, self._input_rewrite = graph, input_rewrite

    def describe(self, group: _Group) -> Island:
        members = self._graph.ordered(group.members)
        inside = {member.name for member in members}
        after = self._graph.ordered(r for member in members for r in self._graph.reads(member) if r.name not in inside)
        before = self._graph.ordered(
            r for member in members for r in self._graph.readers(member) if r.name not in inside
        )
        rewrite, reason = self._rewrite(members, after, before)
        return Island(
            operators=tuple(member.name for member in members),
            types=tuple(member.type for member in members),
            duration_us=sum(member.duration_us for member in members),
            share=sum(member.share for member in members),
            pattern=_pattern(members, after, before, known=self._graph.origins_known),
            source=tuple(dict.fromkeys(name for member in members for name in member.source)),
            after=tuple((operator.source or (operator.name,))[-1] for operator in after),
            before=tuple((operator.source or (operator.name,))[0] for operator in before),
            rewrite=rewrite,
            reason=reason,
        )

    def _rewrite(
        self, members: list[Operator], after: list[Operator], before: list[Operator]
    ) -> tuple[str | None, str]:
        types = {plain_type(member.type) for member in members}
        if types & SPLITS and types & JOINERS:
            return None, "it joins and splits anew; no rewrite is known for a shuffle of channels"
        if types & SPLITS:
            return self._split(after)
        if types & JOINERS:
            return self._join(before)
        if not after:
            return self._at_the_input()
        if not before:
            return None, "the model's output has to be brought into its form"
        return _conversion(types, [*after, *before], members)

    def _split(self, after: list[Operator]) -> tuple[str | None, str]:
        """A convolution's result that is taken apart, an activation between them or not."""
        for operator in after:
            origin = operator
            while plain_type(origin.type) in ACTIVATIONS and len(self._graph.reads(origin)) == 1:
                origin = self._graph.reads(origin)[0]
            if origin.kind == "convolution":
                return SPLIT, "a convolution for each part leaves nothing to split"
        what = f"the result of {after[0].type}" if after else "the model's input"
        return None, f"{what} is split, and only a convolution's can be made in parts"

    def _join(self, before: list[Operator]) -> tuple[str | None, str]:
        """Tensors put together for a 1x1 convolution, an activation between them or not."""
        takers = [self._past_activations(operator) for operator in before]
        others = [operator.type for operator in takers if operator.kind != "convolution"]
        if others or not takers:
            what = ", ".join(dict.fromkeys(others)) or "the output"
            return None, f"what is joined goes to {what}, and only a 1x1 convolution can take its parts apart"
        sizes = {kernel_size(operator) for operator in takers}
        if sizes <= {(1, 1), None}:
            unless = "" if None not in sizes else ", if it is 1x1, which this profile does not say"
            return JOIN, f"a sum of 1x1 convolutions needs nothing joined{unless}"
        height, width = next(size for size in sizes if size not in ((1, 1), None) and size is not None)
        return None, f"a {height}x{width} convolution follows, and only a 1x1 one is taken apart"

    def _past_activations(self, operator: Operator) -> Operator:
        while plain_type(operator.type) in ACTIVATIONS and len(self._graph.readers(operator)) == 1:
            operator = self._graph.readers(operator)[0]
        return operator

    def _at_the_input(self) -> tuple[str | None, str]:
        if self._input_rewrite:
            return self._input_rewrite, "the input then arrives as bytes, and fewer of them are moved"
        return None, "pixels have to be brought into the network's layout, and are bytes already"


def _conversion(types: set[str], around: list[Operator], members: list[Operator]) -> tuple[str | None, str]:
    """Changes of layout, type or shape between two computing operators."""
    repeated = [name for name in types if sum(plain_type(m.type) == name for m in members) > 1]
    if any(name in CASTS or name in SHAPES or name in ("transpose", "transposed") for name in repeated):
        return SIMPLIFY, "neighbours that undo or repeat one another can be one, or none"
    if types & LAYOUTS and (grouped := [operator for operator in around if _can_merge(operator)]):
        what = f"{grouped[0].type} in {group_count(grouped[0])} groups"
        return MERGE, f"{what} has a layout of its own; in larger ones it may have its neighbours'"
    if types & QUANTIZERS:
        floats = [operator.type for operator in around if operator.precision not in (None, "int8")]
        return None, f"int8 meets {floats[0] if floats else 'an operator'} that stayed in float"
    names = " and ".join(dict.fromkeys(operator.type for operator in around))
    return None, f"the kernels of {names} want different layouts or types"


def _can_merge(operator: Operator) -> bool:
    """Whether it is a grouped convolution, and not one channel by channel, which has kernels of its own."""
    groups = group_count(operator)
    return groups is not None and 1 < groups < operator.outputs[0].shape[1]


def _pattern(members: list[Operator], after: list[Operator], before: list[Operator], *, known: bool) -> str:
    """ONNX types from what is read to what reads; of what the engine added, its own types in brackets.

    `known` says that origins are known, so that an operator without one was added; else all have the engine's types.
    """
    own = [name for member in members for name in _onnx_types(member)]
    added = [f"[{member.type}]" if known else member.type for member in members if not member.source]
    middle = list(dict.fromkeys(own)) or list(dict.fromkeys(added))
    first = _choices(" → ".join(_onnx_types(operator) or [operator.type]) for operator in after) or "input"
    last = _choices((_onnx_types(operator) or [operator.type])[0] for operator in before) or "output"
    return " → ".join([first, *middle, last])


def _onnx_types(operator: Operator) -> list[str]:
    return [name for name in operator.source_types if name not in _TRANSPARENT]


def _choices(names: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(names))
