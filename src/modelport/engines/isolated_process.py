"""The near end of `isolated_worker.py`: an offline model, open in a child process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

import numpy as np

from .. import child
from ..errors import EngineDiedError, EngineUnavailableError
from ..host import pinned
from ..offline import OfflineModel
from .session import SessionOptions
from .shared_memory import map_slots, shared_file, slot_bytes

_WORKER = f"{__package__}.isolated_worker"
_OPENING_S = 600.0
_CLOSING_S = 10.0


class EngineGone(Exception):
    """The process has ended: `how` in the past tense, for the log; `reason` as what an image does to it."""

    def __init__(self, how: str, reason: str) -> None:
        super().__init__(how)
        self.how, self.reason = how, reason


class EngineProcess:
    """An offline model in a child process; exists means ready. Each slot serves one thread at a time.

    Attributes:
        slots: batches at once.
        on_cores: whether it computes on this machine's cores.
        cpu_s: processor time of the process up to its latest answer.
        gone: how it ended; None while it lives.
    """

    def __init__(self, model: OfflineModel, options: SessionOptions) -> None:
        """Start it and wait until the model is open.

        Raises:
            ModelportError: whatever opening raises in the child.
            EngineDiedError: it died or hung.
        """
        if sys.platform == "win32":
            raise EngineUnavailableError("a process of the engine's own needs POSIX: run without isolation on Windows")
        assert options.isolation is not None
        self._where, self._timeout = str(model.path), options.isolation.batch_timeout
        self.cpu_s = 0.0
        self.gone: EngineGone | None = None
        self._ending = Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._start(model, options)
        try:
            slots, self.on_cores = self._receive(self._pipes[0], _OPENING_S)
        except EngineGone as gone:
            self.close()
            raise EngineDiedError(f"{self._where}: the engine {gone.how} while it opened the model") from gone
        except BaseException:
            self.close()
            raise
        self.slots = min(slots, len(self._pipes))

    def _start(self, model: OfflineModel, options: SessionOptions) -> None:
        assert options.streams is not None
        count = options.streams * len(options.devices)
        self._pipes, theirs = zip(*(Pipe() for _ in range(count)), strict=True)
        with shared_file(count * slot_bytes(model.tensors)) as memory:
            self._places = map_slots(memory.fileno(), model.tensors, count)
            request = {
                "model": str(model.path.resolve()),
                "streams": options.streams,
                "threads": options.threads,
                "devices": (0,) if options.cores else options.devices,  # it is kept to them, and they are all it sees
                "memory": memory.fileno(),
                "pipes": [pipe.fileno() for pipe in theirs],
            }
            with pinned(options.cores):
                self._process = subprocess.Popen(
                    [*child.command(_WORKER), json.dumps(request)],
                    stdin=subprocess.DEVNULL,
                    stdout=self._errors,
                    stderr=self._errors,
                    pass_fds=[memory.fileno(), *request["pipes"]],
                    start_new_session=True,  # Ctrl-C is for us: batches on their way are still answered
                )
        for pipe in theirs:
            pipe.close()  # so that ours end when the process does

    def infer(self, slot: int, batch: np.ndarray) -> np.ndarray:
        """Run one batch.

        Raises:
            ModelportError: whatever the session raises in the child.
            EngineGone: the process ended before it answered, or did not answer in time and was ended.
        """
        image, scores = self._places[slot]
        np.copyto(image, batch)
        try:
            self._pipes[slot].send(None)
        except OSError:
            raise self._died() from None
        self.cpu_s = self._receive(self._pipes[slot], self._timeout)
        return scores.copy()

    def _receive(self, pipe: Connection, timeout: float) -> Any:
        """The child's answer; raises it where it is an error."""
        try:
            if not pipe.poll(timeout):
                raise self._hung(timeout)
            answer = pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _hung(self, timeout: float) -> EngineGone:
        with self._ending:
            if self.gone is None:
                child.end(self._process)
                self.gone = EngineGone(f"hung (no answer in {timeout:g} s)", "the engine hangs on it")
            return self.gone

    def _died(self) -> EngineGone:
        with self._ending:
            if self.gone is None:
                try:
                    self._process.wait(_CLOSING_S)
                except subprocess.TimeoutExpired:
                    child.end(self._process)
                how = child.ending(self._process.returncode)
                self._errors.seek(0)
                last = child.last_line(self._errors.read().decode(errors="replace"))
                self.gone = EngineGone(f"died ({how}): {last}", f"the engine dies on it ({how})")
            return self.gone

    def close(self) -> None:
        """End the process; calling it twice is fine."""
        for pipe in self._pipes:
            pipe.close()
        self._died()
        self._errors.close()
