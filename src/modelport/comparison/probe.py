"""Looks at tensors of both stages on the same images, a few in each run, and counts the runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from .. import engines
from ..engines.base import Taps
from ..progress import Progress, silent
from ..results.diff import Runs, TensorError
from ..spec import Precision
from .cuts import Common, Cuts
from .inputs import Images
from .metrics import Tally
from .stages import PLAIN_ENGINE, Look, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two stages whose tensors have been matched, and what they run on.

    Attributes:
        a, b: the stages.
        common: their tensors.
        cuts: over the tensors that may be looked at without changing how the stages compute.
        every: over all tensors in common.
        images: what both run on.
        max_taps: most tensors to look at in one run, besides the scores.
        folder: for graphs that are compiled for a moment.
    """

    a: Stage
    b: Stage
    common: Common
    cuts: Cuts
    every: Cuts
    images: Images
    max_taps: int
    folder: Path


class Probe:
    """Errors of tensors, measured when they are first asked for.

    Attributes:
        errors: of the tensors looked at so far, by A's name.
        kinds: dtype and shape of these tensors in B.
        planned: how many runs are expected, for the progress.
    """

    def __init__(self, pair: Pair, progress: Progress = silent) -> None:
        self.pair = pair
        self.errors: dict[str, TensorError] = {}
        self.kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.planned = 0
        self._progress = progress
        self._runs = {"a": 0, "b": 0, "operators": 0}
        self._untapped: list[np.ndarray] | None = None
        self._tapping: Tally | None = None

    @property
    def runs(self) -> Runs:
        """How often what was run."""
        return Runs(**self._runs)

    def look(self, names: Iterable[str]) -> None:
        """Measure the errors of these tensors, as many in a run as may be."""
        left = [name for name in names if name not in self.errors]
        for start in range(0, len(left), self.pair.max_taps):
            self._look(left[start : start + self.pair.max_taps])

    def scores(self) -> tuple[TensorError, TensorError | None]:
        """Errors of the models' scores as they run without taps; and what the taps changed in B's, if it has such a model."""
        a, b = self.untapped("a"), self.untapped("b")
        tally = Tally()
        for ours, theirs in zip(a, b, strict=True):
            tally.add(ours, theirs)
        return tally.result(), self._tapping.result() if self._tapping else None

    def untapped(self, which: str) -> list[np.ndarray]:
        """Scores of one side, batch by batch, without taps."""
        if which == "b" and self._untapped is not None:
            return self._untapped
        stage = self.pair.a if which == "a" else self.pair.b
        with stage.untapped() as scores:
            if scores is None:
                run = self._open(which, [])
                name = self._name(which, self.pair.cuts.names[-1])
                found = [run(batch)[name] for batch in self.pair.images.batches]
            else:
                self._runs[which] += 1
                found = [scores(batch) for batch in self.pair.images.batches]
                if which == "b":
                    self._tapping = Tally()
        if which == "b":
            self._untapped = found
        return found

    def own(self, names: Iterable[str], cuts: Cuts) -> dict[str, TensorError]:
        """Operators' own errors: B's result against A's operators, from the parents in `cuts` on, on B's own inputs.

        Where A is no graph (PyTorch) it is B's file's operators on A's inputs against A's result: faults of the file show,
        an engine's do not.

        Returns:
            By tensor; without those whose parents are more than may be looked at.
        """
        found: dict[str, TensorError] = {}
        group: list[str] = []
        for name in [*names, None]:
            wanted = _needed([*group, name] if name else group, cuts)
            if group and (name is None or len(wanted) > self.pair.max_taps):
                found |= self._own(group, cuts)
                group = []
            if name and len(_needed([name], cuts)) <= max(self.pair.max_taps, 2):
                group.append(name)
        return found

    def _look(self, names: list[str]) -> None:
        run_a, run_b = self._open("a", names), self._open("b", names)
        tallies = {name: Tally() for name in names}
        for number, batch in enumerate(self.pair.images.batches):
            ours, theirs = run_a(batch), run_b(batch)
            for name, tally in tallies.items():
                result = theirs[self._name("b", name)]
                tally.add(ours[self._name("a", name)], result)
                self.kinds[name] = str(result.dtype), result.shape
            self._note_scores(number, theirs)
        self.errors |= {name: tally.result() for name, tally in tallies.items()}

    def _own(self, names: list[str], cuts: Cuts) -> dict[str, TensorError]:
        side = "b" if self.pair.a.network is not None else "a"
        run = self._open(side, _needed(names, cuts))
        tallies = {name: Tally() for name in names}
        regions = {name: self._region(name, cuts) for name in names}
        source = cuts.network.input
        for batch in self.pair.images.batches:
            found = run(batch)
            for name, region in regions.items():
                feeds = {p: batch.floats if p == source else found[self._name(side, p)] for p in cuts.parents[name]}
                once, result = region(feeds)[name], found[self._name(side, name)]
                tallies[name].add(*((once, result) if side == "b" else (result, once)))
        return {name: tally.result() for name, tally in tallies.items()}

    def _region(self, name: str, cuts: Cuts) -> Taps:
        """The reference's operators that make a tensor from its parents, run plainly."""
        path = self.pair.folder / "operators.onnx"
        onnx.save(cuts.network.region(cuts.parents[name], name), path)
        self._runs["operators"] += 1
        try:
            return engines.load(PLAIN_ENGINE).tap(path, Precision.F32, plain=True)
        finally:
            path.unlink()

    def _open(self, which: str, names: Iterable[str]) -> Look:
        self._runs[which] += 1
        stage = self.pair.a if which == "a" else self.pair.b
        size = len(self.pair.images.batches[0].floats)
        done = self._runs["a"] + self._runs["b"]
        self._progress("looking inside", done - 1, max(done, self.planned))
        return stage.look([self._name(which, name) for name in names], size)

    def _name(self, which: str, name: str) -> str:
        return name if which == "a" else self.pair.common.b_names[name]

    def _note_scores(self, number: int, found: dict[str, np.ndarray]) -> None:
        if self._tapping is not None and self._untapped is not None:
            self._tapping.add(self._untapped[number], found[self._name("b", self.pair.cuts.names[-1])])


def _needed(names: list[str], cuts: Cuts) -> list[str]:
    wanted = [tensor for name in names for tensor in (*cuts.parents[name], name)]
    return [tensor for tensor in dict.fromkeys(wanted) if tensor != cuts.network.input]
