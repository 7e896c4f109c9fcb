"""A graph being rewritten pass by pass: each rewrite is proven equal, and kept by timing or by rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..engines.base import CompileOptions, Engine
from ..engines.compiler import compile_model
from ..errors import ModelportError
from ..graph import ClassifierGraph
from ..graph.passes import Choice
from ..results import PairedTiming, Parity, PassDecision
from ..results.optimization import PassOutcome
from ..spec import ModelSpec
from .equality import Equality
from .paired import TurnOptions, time_in_turn

if TYPE_CHECKING:
    from ..graph.passes.base import Rewrite

MIN_GAIN = 0.01
_UNMEASURED = "trades one cost for another: not applied unmeasured, unless --passes names it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be done, checked.

    Attributes:
        graph: the source.
        spec: None where the file says nothing of its images and nothing needs it.
        engine, compile: the target.
        measured: whether to decide by timing; else by rule.
        turns, min_gain, tolerance, compile_timeout_s: as in `OptimizeOptions`.
    """

    graph: ClassifierGraph
    spec: ModelSpec | None
    engine: Engine
    compile: CompileOptions
    measured: bool
    turns: TurnOptions
    min_gain: float
    tolerance: float
    compile_timeout_s: float | None


class _Dropped(Exception):
    """A rewrite is not kept."""

    def __init__(self, outcome: PassOutcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


class Rewrites:
    """What has been kept so far.

    Attributes:
        source: the original graph.
        model: with what has been kept; the original itself where that is nothing.
    """

    def __init__(self, job: Job, samples: np.ndarray, place: Path) -> None:
        """Run the original for the proofs, and compile it where passes are measured.

        Args:
            job: what to do.
            samples: inputs for the proofs, N x channels x height x width.
            place: directory for files that are not kept.

        Raises:
            CompileError: the engine cannot compile it.
        """
        self._job, self._place, self._count = job, place, 0
        self._equality = Equality(job.graph, samples, job.tolerance)
        self.source = self.model = onnx.load(job.graph.path)
        self._first = self._best = self._compile(job.graph.path, "source") if job.measured else place

    def consider(self, choice: Choice) -> PassDecision:
        """Try a pass on top of what has been kept."""
        self._count += 1
        facts: dict[str, Any] = {"name": choice.graph_pass.label, "summary": choice.graph_pass.summary}
        path = self._place / f"{self._count}.onnx"
        try:
            reason = self._try(choice, path, facts)
        except _Dropped as dropped:
            return PassDecision(**facts, outcome=dropped.outcome, reason=dropped.reason)
        except ModelportError as error:
            told = str(error).replace(str(path), "the rewritten graph")
            return PassDecision(**facts, outcome="failed", reason=told)
        return PassDecision(**facts, outcome="kept", reason=reason)

    def _try(self, choice: Choice, path: Path, facts: dict[str, Any]) -> str:
        """Keep a pass's rewrite and say why, or raise; what is found on the way goes into `facts`."""
        found = self._apply(choice, facts)
        rule = choice.graph_pass.rule
        if not (self._job.measured or rule or choice.asked):
            raise _Dropped("rejected", _UNMEASURED)
        path.write_bytes(found.model.SerializeToString())
        facts["parity"] = parity = self._equality.prove(path)
        if not parity.passed:
            raise _Dropped("refuted", _differs(parity))
        reason = f"by rule: {rule}" if rule else "named in --passes"
        if self._job.measured:
            compiled = self._compile(path, str(self._count))
            reason = self._time(compiled, facts)
            self._best = compiled
        self.model = found.model
        return reason

    def _time(self, compiled: Path, facts: dict[str, Any]) -> str:
        """Time a rewrite against what has been kept, and again where it won: of several that are noise, one may win by chance."""
        first = facts["timing"] = time_in_turn(self._best, compiled, self._job.turns)
        kept, reason = judge(first, self._job.min_gain)
        if not kept:
            raise _Dropped("rejected", reason)
        second = time_in_turn(self._best, compiled, self._job.turns)
        facts["timing"] = first.joined(second)
        confirmed, reason = judge(second, self._job.min_gain)
        if not confirmed:
            raise _Dropped("rejected", f"faster at first, {reason} when timed again")
        return "faster, confirmed by a second timing"

    def _apply(self, choice: Choice, facts: dict[str, Any]) -> Rewrite:
        from ..graph.passes.base import BrokenRewriteError, DoesNotApply, operators

        try:
            found = choice.graph_pass.apply(self.model)
        except BrokenRewriteError as error:
            raise _Dropped("refuted", str(error)) from error
        if isinstance(found, DoesNotApply):
            raise _Dropped("not-applicable", found.reason)
        facts |= {
            "sites": found.sites,
            "refused": found.refused,
            "operators_before": operators(self.model),
            "operators_after": operators(found.model),
        }
        return found

    def content(self) -> bytes:
        """The bytes to write: the source's own where nothing was kept, unless its weights are in other files."""
        path = self._job.graph.path
        tensors = onnx.load(path, load_external_data=False).graph.initializer
        if self.model is self.source and not any(tensor.external_data for tensor in tensors):
            return path.read_bytes()
        return self.model.SerializeToString()

    def total_timing(self, decisions: list[PassDecision]) -> PairedTiming | None:
        """All that was kept against the source; None where nothing was kept or timed."""
        kept = [decision for decision in decisions if decision.outcome == "kept"]
        if not self._job.measured or not kept:
            return None
        return kept[0].timing if len(kept) == 1 else time_in_turn(self._first, self._best, self._job.turns)

    def _compile(self, path: Path, name: str) -> Path:
        job = self._job
        assert job.spec is not None
        return compile_model(
            path,
            self._place / name,
            engine=job.engine.name,
            options=job.compile,
            preprocess=job.spec.preprocess,
            num_classes=job.spec.num_classes,
            timeout=job.compile_timeout_s,
        ).path


def judge(timing: PairedTiming, min_gain: float) -> tuple[bool, str]:
    """Whether a rewrite wins beyond noise, and why.

    It does where the 95 % interval of the median ratio lies above 1 and the median gain is at least `min_gain`.
    """
    low, high = timing.interval95
    if high < 1:
        return False, "slower"
    if low <= 1:
        return False, "within noise"
    if timing.ratio < 1 + min_gain:
        return False, f"faster by less than {min_gain * 100:g} %"
    return True, "faster"


def _differs(parity: Parity) -> str:
    return (
        f"its scores differ from the original's by up to {parity.relative_error:.2g} of the largest score, tolerance "
        f"{parity.tolerance:g}"
    )
