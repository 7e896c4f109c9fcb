"""One session on each of several devices, fed from one queue. A processor's devices are equal parts of its cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import zip_longest
from queue import SimpleQueue

import numpy as np

from ..errors import EngineUnavailableError
from ..host import core_numbers, pinned
from .session import Session, SessionOptions


class DevicesSession(Session):
    """Sessions of the same model, each on its device. A batch goes to whichever has been free for longest."""

    def __init__(self, sessions: list[Session]) -> None:
        """`sessions` are closed with this one."""
        first = sessions[0]
        super().__init__(first.where, (first.input, first.output), sum(session.slots for session in sessions))
        self.on_cores = first.on_cores
        self._sessions = sessions
        self._free: SimpleQueue[Session] = SimpleQueue()
        for turn in zip_longest(*([session] * session.slots for session in sessions)):
            for session in turn:  # 0 1 2 3 0 1 2 3: neighbours in the queue are different devices
                if session is not None:
                    self._free.put(session)

    @property
    def by_device(self) -> dict[str, Session]:
        return {session.device: session for session in self._sessions}

    @property
    def restarts(self) -> int | None:  # type: ignore[override]
        counts = [session.restarts for session in self._sessions if session.restarts is not None]
        return sum(counts) if counts else None

    @property
    def cpu_elsewhere_s(self) -> float:  # type: ignore[override]
        return sum(session.cpu_elsewhere_s for session in self._sessions)

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        with self._next() as session:
            return session.infer(batch)

    def infer_rows(self, batch: np.ndarray, rows: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        self._require_open()
        with self._next() as session:
            return session.infer_rows(batch, rows)

    @contextmanager
    def _next(self) -> Iterator[Session]:
        """The device's session that has been free for longest, with the calling thread on its cores."""
        session = self._free.get()
        try:
            with pinned(session.cores):
                yield session
        finally:
            self._free.put(session)

    def close(self) -> None:
        super().close()
        for session in self._sessions:
            session.close()


def split_cores(title: str, options: SessionOptions) -> list[SessionOptions]:
    """What each device of a processor is opened with: device n of N is the n-th of N equal parts of the cores.

    Raises:
        EngineUnavailableError: a number is not below the number of devices, or there are fewer cores than devices.
    """
    count, cores = len(options.devices), core_numbers()[: options.threads]
    if sorted(options.devices) != list(range(count)):
        raise EngineUnavailableError(
            f"{title} runs on this machine's processor, whose devices are parts of its cores: {count} of them are "
            f"{','.join(map(str, range(count)))}, not {','.join(map(str, options.devices))}"
        )
    if count == 1:
        return [options]
    if len(cores) < count:
        raise EngineUnavailableError(
            f"{title} runs on this machine's processor, whose {len(cores)} cores make no {count} devices; ask for fewer"
        )
    ends = [len(cores) * number // count for number in range(count + 1)]
    parts = [tuple(cores[ends[number] : ends[number + 1]]) for number in options.devices]
    return [
        replace(options, devices=(number,), cores=part, threads=len(part))
        for number, part in zip(options.devices, parts, strict=True)
    ]


def open_each(open_one: Callable[[SessionOptions], Session], parts: list[SessionOptions], *, at_once: bool) -> Session:
    """Open a session on each device; all of them, or none.

    Args:
        open_one: opens one.
        parts: options, each with one device.
        at_once: side by side, since each takes its time; else one after the other, as runtimes that hand out cores need it.
    """

    def open_part(part: SessionOptions) -> Session:
        with pinned(part.cores):  # a runtime's own threads take after the thread that makes them
            session = open_one(part)
        session.device, session.cores = str(part.devices[0]), part.cores
        opened.push(session)
        return session

    with ExitStack() as opened, ThreadPoolExecutor(len(parts) if at_once else 1) as pool:
        sessions = list(pool.map(open_part, parts))
        opened.pop_all()
    if len(sessions) == 1:
        return sessions[0]
    return DevicesSession(sessions)
