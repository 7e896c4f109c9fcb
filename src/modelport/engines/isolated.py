"""A session whose engine lives in a process of its own: one that crashes or hangs there costs an image and not the run.

The process has all streams, so that they share the cores as they do without isolation; what isolation costs is one copy of
each batch. Where the process ends, whatever batches were on their way may have been the reason, and are suspects: each is
run again with the engine to itself. One that ends the engine again is halved, the other images blanked, until it is known
which of its images do it. Such an image has ended the engine twice while nothing else was there, and is counted as failed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock

import numpy as np

from ..errors import EngineDiedError
from ..offline import OfflineModel
from .isolated_process import EngineGone, EngineProcess
from .session import Session, SessionOptions

log = logging.getLogger("modelport")


class IsolatedSession(Session):
    """Batches handed to a child process, which is started again where it ends."""

    def __init__(self, model: OfflineModel, options: SessionOptions) -> None:
        """Open the model in the child.

        Raises:
            ModelportError: whatever opening raises there.
            EngineDiedError: it died or hung while it opened the model.
        """
        assert options.isolation is not None
        self._model, self._options, self._isolation = model, options.with_streams(1), options.isolation
        self._process = EngineProcess(model, self._options)
        super().__init__(str(model.path), model.tensors, self._process.slots)
        self.on_cores, self.restarts = self._process.on_cores, 0
        self._suspecting = Lock()
        self._free: SimpleQueue[int] = SimpleQueue()
        for slot in range(self.slots):
            self._free.put(slot)
        self._spent = 0.0

    @property
    def cpu_elsewhere_s(self) -> float:  # type: ignore[override]
        return self._spent + self._process.cpu_s

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        scores, failed = self._answer(batch, range(self.batch_size))
        for row, reason in failed.items():
            raise EngineDiedError(f"{self.where}: image {row} of the batch: {reason}")
        return scores

    def infer_rows(self, batch: np.ndarray, rows: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        self._require_fit(batch)
        return self._answer(batch, rows)

    def _answer(self, batch: np.ndarray, rows: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        slot = self._free.get()
        try:
            return self._process.infer(slot, batch), {}
        except EngineGone:
            pass  # by this batch, or by one beside it
        finally:
            self._free.put(slot)
        scores = np.zeros(self.output.shape, np.float32)
        with self._alone() as slot:
            failed = self._find(slot, batch, rows, scores)
        return scores, failed

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """All slots are ours; yield one of them."""
        with self._suspecting:
            slots = [self._free.get() for _ in range(self.slots)]
            try:
                yield slots[0]
            finally:
                for slot in slots:
                    self._free.put(slot)

    def _find(self, slot: int, batch: np.ndarray, rows: Sequence[int], scores: np.ndarray) -> dict[int, str]:
        """Fill in the scores of these rows; return the reasons of those that end the engine."""
        if not rows:
            return {}
        gone = self._try(slot, batch, rows, scores)
        if gone is not None and len(rows) == 1:
            gone = self._try(slot, batch, rows, scores)
        if gone is None:
            return {}
        if len(rows) == 1:
            return {rows[0]: gone.reason}
        half = len(rows) // 2
        return self._find(slot, batch, rows[:half], scores) | self._find(slot, batch, rows[half:], scores)

    def _try(self, slot: int, batch: np.ndarray, rows: Sequence[int], scores: np.ndarray) -> EngineGone | None:
        """Run these rows alone, the others blank."""
        part = np.zeros_like(batch)
        part[rows] = batch[rows]
        try:
            scores[rows] = self._running().infer(slot, part)[rows]
        except EngineGone as gone:
            return gone
        return None

    def _running(self) -> EngineProcess:
        """The process, started again where it has ended. For who is alone: nobody else may be looking at it."""
        self._require_open()  # closing ends the process as well
        if (gone := self._process.gone) is None:
            return self._process
        most = self._isolation.restarts
        if self.restarts >= most:
            raise EngineDiedError(
                f"{self.where}: the engine {gone.how}, after it was started again {most} times, the most in a run; run "
                "without isolation to see how it fails, or again to go on"
            )
        self.restarts += 1
        self._spent += self._process.cpu_s
        log.warning("%s: the engine %s; starting it again (%d of %d)", self.where, gone.how, self.restarts, most)
        self._process.close()
        self._process = EngineProcess(self._model, self._options)
        return self._process

    def close(self) -> None:
        super().close()
        self._process.close()
