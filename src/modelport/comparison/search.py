"""The first operator that falls out, in O(log n) runs: bisection over cuts of the network, then the operator's own error.

Errors add up with depth, so the tensor at which the marks are first missed need not come from a bad operator. Each find is
therefore checked: A's operator is run on B's own inputs, and what B's result is off from that is the operator's own error.
Where that is within the marks, the errors of many operators have added up, and a second bisection looks for the place where
B goes far out, if there is one: half of what its scores are off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..results.diff import Culprit, LayerError, Marks, TensorError
from .cuts import Cuts
from .network import Operator
from .probe import Probe

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        culprit: None where no operator falls out.
        recovers: the scores are within the marks all the same.
        own: own errors that were measured, by tensor.
    """

    culprit: Culprit | None
    recovers: bool
    own: dict[str, TensorError]


class Search:
    """A search with a probe, under some marks."""

    def __init__(self, probe: Probe, marks: Marks) -> None:
        self._probe, self._marks, self._cuts = probe, marks, probe.pair.cuts
        self._own: dict[str, TensorError] = {}

    def run(self) -> Found:
        """Find the first operator that falls out."""
        count = len(self._cuts)
        self._probe.planned = 2 * (math.ceil(math.log2(count + 1)) + 3)
        level = self._level(count)
        low, high, recovers = 0, count, False
        if level < 1:
            low, high = self._look_inside(count)
            recovers = True
            if high is None:
                return Found(culprit=None, recovers=False, own=self._own)
        culprit = self._judge(self._bisect(low, high, 1.0))
        reached = self._marks.severity(culprit.layer.error)
        if culprit.kind == "accumulated" and not recovers and level > 4 * reached:
            deeper = self._judge(self._bisect(self._cuts.place[culprit.layer.tensor] + 1, count, level / 2), level / 2)
            if deeper.kind == "own":
                culprit = deeper.model_copy(update={"crossed_at": culprit.layer.operator})
        return Found(culprit=culprit, recovers=recovers, own=self._own)

    def _level(self, count: int) -> float:
        """How far out the cut after `count` tensors is, in units of the marks."""
        names = self._cuts.after(count)
        self._probe.look(names)
        return max((self._marks.severity(self._probe.errors[name]) for name in names), default=0.0)

    def _bisect(self, low: int, high: int, level: float) -> str:
        """The tensor that takes the cut over a level: below it after `low` tensors, not below it after `high`."""
        while high - low > 1:
            middle = (low + high) // 2
            if self._level(middle) >= level:
                high = middle
            else:
                low = middle
        return self._cuts.names[high - 1]

    def _look_inside(self, count: int) -> tuple[int, int | None]:
        """Where the scores are fine: the first of log2 n evenly spread cuts that is not, and the last before it."""
        steps = math.ceil(math.log2(count)) if count > 1 else 0
        low = 0
        for place in sorted({count * step // (steps + 1) for step in range(1, steps + 1)} - {0}):
            if self._level(place) >= 1:
                return low, place
            low = place
        return low, None

    def _judge(self, name: str, level: float = 1.0) -> Culprit:
        """The operator of a tensor that takes the cut over the level, and whether the fault is its own."""
        probe, cuts = self._probe, self._cuts
        probe.look([name])
        own = self._measure([name], cuts).get(name)
        parents = [parent for parent in cuts.parents[name] if parent != cuts.network.input]
        probe.look(parents)
        inherited = max((probe.errors[parent] for parent in parents), key=self._marks.severity, default=None)
        if own is not None:
            is_own = self._marks.severity(own) >= 1
        else:  # more inputs than may be looked at in one run: its error can only be held against theirs
            before = self._marks.severity(inherited) if inherited else 0.0
            is_own = self._marks.severity(probe.errors[name]) >= 2 * before
        operators, tensor = cuts.operators(name), name
        if is_own and len(operators) > 1:
            operators, tensor = self._narrow(name, operators)
        probe.look([tensor])
        return Culprit(
            layer=make_layer(probe, tensor, self._own, operators),
            kind="own" if is_own else "accumulated",
            inherited=inherited,
            level=level,
        )

    def _narrow(self, name: str, operators: list[Operator]) -> tuple[list[Operator], str]:
        """Of several fused operators the one that is out, where it is still out when it can be looked at alone."""
        every = self._probe.pair.every
        inner = {output for operator in operators for output in operator.node.output} & set(every.names)
        own = self._measure(sorted(inner, key=every.place.__getitem__), every)
        out = {tensor: level for tensor, error in own.items() if (level := self._marks.severity(error)) >= 1}
        if not out:
            return operators, name
        worst = max(out, key=out.__getitem__)
        return every.operators(worst), worst

    def _measure(self, names: list[str], cuts: Cuts) -> dict[str, TensorError]:
        found = self._probe.own(names, cuts)
        self._own |= found
        return found


def make_layer(
    probe: Probe, tensor: str, own: dict[str, TensorError], operators: list[Operator] | None = None
) -> LayerError:
    """The report of a tensor that was looked at."""
    between = operators or probe.pair.cuts.operators(tensor)
    dtype, shape = probe.kinds[tensor]
    return LayerError(
        operator=_main(between).name,
        operators=tuple(operator.name for operator in between),
        op_type=" → ".join(dict.fromkeys(operator.kind for operator in between)),
        tensor=tensor,
        depth=probe.pair.every.place[tensor] + 1,
        dtype=dtype,
        shape=shape,
        error=probe.errors[tensor],
        own=own.get(tensor),
    )


def _main(operators: list[Operator]) -> Operator:
    """Of operators between two tensors the one that gives the layer its name: the only heavy one, else the last."""
    heavy = [operator for operator in operators if operator.kind in HEAVY]
    return heavy[0] if len(heavy) == 1 else operators[-1]
