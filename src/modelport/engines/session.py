"""An opened offline model, and how to open one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from ..errors import InferenceError
from ..offline import TensorSpec
from ..results import OperatorFacts

BATCH_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolation:
    """Run the engine in a process of its own, whose death or hanging costs no more than the image that caused it.

    Attributes:
        batch_timeout: seconds after which a batch without an answer hangs.
        restarts: how often the engine is started again, on each device, before the run ends.
    """

    batch_timeout: float = BATCH_TIMEOUT_S
    restarts: int = 64

    def __post_init__(self) -> None:
        if not self.batch_timeout > 0:
            raise ValueError(f"batch_timeout must be above 0 seconds, got {self.batch_timeout}")
        if self.restarts < 0:
            raise ValueError(f"restarts must be at least 0, got {self.restarts}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionOptions:
    """How to run.

    Attributes:
        streams: batches at once on each device; None leaves it to who opens the session, and is 1 where nobody says more.
        threads: cores in all; None is the engine's choice.
        devices: numbers of the accelerators; of the processor of this machine, parts of its cores: 0 alone is all of them, 0 and
            1 are halves.
        cores: numbers of the processor cores that it is to keep to; empty where it may use all.
        profile: so that `Session.profile` can be called; one stream on one device only.
        isolation: run in a process of its own; None runs in this one. It changes no score.
    """

    streams: int | None = None
    threads: int | None = None
    devices: tuple[int, ...] = (0,)
    cores: tuple[int, ...] = ()
    profile: bool = False
    isolation: Isolation | None = None

    def __post_init__(self) -> None:
        if self.streams is not None and self.streams < 1:
            raise ValueError(f"streams must be at least 1, got {self.streams}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if not self.devices or min(self.devices) < 0 or len(set(self.devices)) < len(self.devices):
            raise ValueError(f"devices must be different numbers from 0, at least one; got {self.devices}")
        if self.profile and ((self.streams or 1) > 1 or len(self.devices) > 1):
            raise ValueError("operators are timed one after the other: profile takes one stream and one device")
        if self.profile and self.isolation:
            raise ValueError("operators are timed in this process: profile goes without isolation")

    def with_streams(self, streams: int, threads: int | None = None) -> SessionOptions:
        """These options, or that many streams where they say nothing of streams; `threads` likewise, and only then."""
        if self.streams is not None:
            return self
        return replace(self, streams=streams, threads=self.threads or threads)


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorTimes:
    """Times of all operators over a block of rounds.

    Attributes:
        operators: in the order of execution.
        durations_us: samples x operators. A sample is one round, or the mean of the block where the engine's counters only
            add up. What the counters themselves are known to cost is taken off.
        gaps_us: samples x operators, from the end of the operator before (or the round's start) to this one's start; None
            where the engine does not say.
        latencies_s: of each round, seconds, with the counters on.
        counter_us: what was taken off each operator's time, microseconds; negative where the counters cut off fractions.
    """

    operators: tuple[OperatorFacts, ...]
    durations_us: np.ndarray
    gaps_us: np.ndarray | None
    latencies_s: tuple[float, ...]
    counter_us: float


class Session(ABC):
    """An opened offline model: exists means ready. Close it, or use it as a context manager.

    `infer` may be called from up to `slots` threads at once; each call runs one batch to its end.
    """

    on_cores: bool = False  # True where it computes on this machine's cores, which decoding needs as well
    restarts: int | None = None  # how often its process was started again; None where it has none of its own
    cpu_elsewhere_s: float = 0.0  # processor time that it has used in other processes, as far as it knows

    def __init__(self, where: str, tensors: tuple[TensorSpec, TensorSpec], slots: int) -> None:
        """`where` names the model in errors; `tensors` are its input and its output."""
        self.where = where
        self.input, self.output = tensors
        self.slots = slots
        self.counting = False
        self.device = "0"
        self.cores: tuple[int, ...] = ()  # that callers' threads are to keep to; empty where all will do
        self._dtype = np.dtype(self.input.dtype)
        self._closed = False

    @property
    def by_device(self) -> dict[str, Session]:
        """The sessions that it is made of, by the name of their device: itself, unless there are several devices."""
        return {self.device: self}

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.input.shape[0]

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """Run one batch.

        Args:
            batch: float32, batch size x channels x height x width, or uint8, batch size x height x width x channels, as
                the manifest's input says.

        Returns:
            Scores, float32, batch size x classes; the caller's own copy.

        Raises:
            InferenceError: the session is closed, dtype or shape differ from the manifest's, or the runtime failed.
        """
        self._require_fit(batch)
        scores = self._infer(batch)
        if scores.shape != self.output.shape:
            raise InferenceError(
                f"{self.where}: output {self.output.name!r} is {_show(scores.shape)}, expected {_show(self.output.shape)}; "
                "was --num-classes right?"
            )
        return scores

    def infer_rows(self, batch: np.ndarray, rows: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """Run one batch and tell which images of it the engine cannot run, where the session can find out.

        Args:
            batch: as for `infer`.
            rows: those that hold images.

        Returns:
            Scores, and the reason by row for those of these rows that have none.

        Raises:
            InferenceError: as `infer`.
        """
        return self.infer(batch), {}

    def profile(self, batch: np.ndarray, *, warmup: int = 3, rounds: int = 5) -> OperatorTimes:
        """Time every operator by the engine's own counters, which start afresh with each call.

        Args:
            batch: as for `infer`.
            warmup: rounds before, not counted; at least 1, since the first round after counters were set up is a slow one.
            rounds: counted ones.

        Raises:
            InferenceError: the session was not opened with `profile`, the engine has no counters, or as `infer`.
        """
        if warmup < 1 or rounds < 1:
            raise ValueError(f"warmup and rounds must be at least 1, got {warmup} and {rounds}")
        self._require_fit(batch)
        if not self.counting:
            raise InferenceError(
                f"{self.where}: was opened without counters: open it with SessionOptions(profile=True)"
            )
        return self._profile(batch, warmup, rounds)

    def _require_open(self) -> None:
        if self._closed:
            raise InferenceError(f"{self.where}: the session is closed")

    def _require_fit(self, batch: np.ndarray) -> None:
        self._require_open()
        if batch.dtype != self._dtype or batch.shape != self.input.shape:
            raise InferenceError(
                f"{self.where}: input {self.input.name!r} got {batch.dtype} {_show(batch.shape)}, "
                f"expected {self.input.dtype} {_show(self.input.shape)}"
            )

    def random_batch(self) -> np.ndarray:
        """A batch of noise that fits the input, the same every time: for measuring, where the scores do not matter."""
        rng = np.random.default_rng(0)
        if self._dtype == np.uint8:
            return rng.integers(0, 256, self.input.shape, dtype=np.uint8)
        return rng.standard_normal(self.input.shape, dtype=np.float32)

    @abstractmethod
    def _infer(self, batch: np.ndarray) -> np.ndarray:
        """Run one checked batch."""

    def _profile(self, batch: np.ndarray, warmup: int, rounds: int) -> OperatorTimes:
        """Time the operators of a checked batch. An engine that writes this sets its `counters`."""
        raise InferenceError(f"{self.where}: its engine has no operator counters")

    def close(self) -> None:
        """Give the runtime's resources back. Calling it twice is fine."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
