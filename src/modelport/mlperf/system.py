"""The system under test: LoadGen's queries wait in one line, and every slot of the session takes a batch of them when it is free."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread

import numpy as np

from ..engines.session import Session
from ..host import pinned
from .answers import ANSWER, encode
from .library import SampleLibrary

Complete = Callable[[list[int], int, int], None]
"""Called with the ids of answered samples, the address of the first answer, and the size of each."""


class SystemUnderTest:
    """Answers queries. `issue` only lines them up; threads of its own do the work."""

    def __init__(
        self, session: Session, library: SampleLibrary, complete: Complete, failed: Callable[[BaseException], None]
    ) -> None:
        """`failed` is called with whatever ends a worker: the queries that it held are never answered."""
        self._session, self._library, self._complete, self._failed = session, library, complete, failed
        self._waiting: deque[tuple[int, int]] = deque()
        self._changed = Condition()
        self._closed = False
        self.asked = self.answered = 0

    def issue(self, ids: list[int], places: list[int]) -> None:
        """Line up samples: their ids, and which images they are."""
        with self._changed:
            self._waiting.extend(zip(ids, places, strict=True))
            self.asked += len(ids)
            self._changed.notify_all()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Workers on all slots of all devices."""
        parts = [part for part in self._session.by_device.values() for _ in range(part.slots)]
        threads = [Thread(target=self._work, args=(part,), name="modelport-loadgen", daemon=True) for part in parts]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
        for thread in threads:  # only after good work: one that fails may leave the others in the engine
            thread.join()

    def _work(self, part: Session) -> None:
        try:
            with pinned(part.cores):
                batch = np.zeros(part.input.shape, part.input.dtype)
                while taken := self._take(part.batch_size):
                    self._answer(part, batch, taken)
        except BaseException as error:  # handed to whoever waits for the test's end, whatever it is
            self._failed(error)

    def _take(self, most: int) -> list[tuple[int, int]]:
        """As many waiting samples as fit a batch; empty when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _answer(self, part: Session, batch: np.ndarray, taken: list[tuple[int, int]]) -> None:
        for row, (_, place) in enumerate(taken):
            batch[row] = self._library[place]
        batch[len(taken) :] = 0  # padding; its scores are never looked at
        answers = encode(part.infer(batch)[: len(taken)])
        # LoadGen reads the answers at their address until this call returns; `answers` lives on for as long.
        self._complete([sample for sample, _ in taken], answers.ctypes.data, ANSWER.itemsize)
        self.answered += len(taken)
