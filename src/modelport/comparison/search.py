"""The first operator that falls out, in O(log n) runs: bisection over cuts of the network, then the operator's own error.

Errors add up with depth, so the tensor at which the marks are first missed need not come from a bad operator. Each find is
therefore checked: A's operator is run on B's own inputs, and what B's result is off from that is the operator's own error.
Where that is within the marks, the errors of many operators have added up, and a second bisection looks for the place where
B goes much farther out, if there is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..results.diff import Culprit, LayerError, Marks, TensorError
from .cuts import Cuts
from .network import Operator
from .probe import Probe

_MUCH_WORSE = 2.0
_LARGEST = 1e6  # times the marks; infinities have no middle
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
    """A search with a probe, under some marks. `own` holds the own errors that are known already."""

    def __init__(self, probe: Probe, marks: Marks, own: dict[str, TensorError] | None = None) -> None:
        self._probe, self._marks, self._cuts = probe, marks, probe.pair.cuts
        self._own = dict(own or {})

    def run(self) -> Found:
        """Find the first operator that falls out."""
        return self._read() if self._own else self._search()

    def _read(self) -> Found:
        """Where every layer's own error is known: the first that is out by itself, else the first that is out at all."""
        errors, severity = self._probe.errors, self._marks.severity
        out = [name for name in self._cuts.names if severity(errors[name]) >= 1]
        alone = [name for name in out if name in self._own and severity(self._own[name]) >= 1]
        first = next(iter(alone or out), None)
        recovers = first is not None and out[-1] != self._cuts.names[-1]
        return Found(culprit=self._judge(first) if first else None, recovers=recovers, own=self._own)

    def _search(self) -> Found:
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
        if culprit.kind == "accumulated":
            culprit = self._look_deeper(culprit) or culprit
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
        low = 0
        for place in _spread(0, count):
            if self._level(place) >= 1:
                return low, place
            low = place
        return low, None

    def _look_deeper(self, crossing: Culprit) -> Culprit | None:
        """Beyond small errors that add up: the operator at which B goes far out, if the error is its own.

        Far out is midway, geometrically, between where the marks are missed and the worst of log2 n cuts beyond.
        """
        begin, end = self._cuts.place[crossing.layer.tensor] + 1, len(self._cuts)
        levels = {place: self._level(place) for place in [*_spread(begin, end), end]}
        worst = max(levels, key=levels.__getitem__)
        reached = self._marks.severity(crossing.layer.error)
        if levels[worst] < _MUCH_WORSE * reached:
            return None
        level = math.sqrt(reached * min(levels[worst], _LARGEST))
        found = self._judge(self._bisect(begin, worst, level), level)
        return found.model_copy(update={"crossed_at": crossing.layer.operator}) if found.kind == "own" else None

    def _judge(self, name: str, level: float = 1.0) -> Culprit:
        """The operator of a tensor that takes the cut over the level, and whether the fault is its own."""
        probe, cuts = self._probe, self._cuts
        probe.look([name])
        own = self._own.get(name) or self._measure([name], cuts).get(name)
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


def _spread(low: int, high: int) -> list[int]:
    """log2 n places between two, evenly spread."""
    steps = math.ceil(math.log2(high - low)) if high - low > 1 else 0
    return sorted({low + (high - low) * step // (steps + 1) for step in range(1, steps + 1)} - {low})


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
