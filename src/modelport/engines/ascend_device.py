"""The near end of `ascend_worker.py`: one device in a process of its own."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..child import ending, last_line
from ..errors import EngineDiedError, EngineUnavailableError, InferenceError
from ..offline import OfflineModel, TensorSpec
from .shared_memory import shared_file

_WORKER = Path(__file__).with_name("ascend_worker.py")
_CLOSING_S = 10
_log = logging.getLogger(__name__)


class Device:
    """An .om file on one device. Starting begins to load it; `infer` is for one thread at a time."""

    def __init__(self, number: int, om: Path, tensor: TensorSpec) -> None:
        self.number, self.runtime = number, ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        with shared_file(math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize) as memory:
            self._input = np.memmap(memory, tensor.dtype, "r+", shape=tensor.shape)
            self._process = subprocess.Popen(
                [sys.executable, "-P", _WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=[memory.fileno()],
            )
            self._send(
                {
                    "device": number,
                    "model": str(om.resolve()),
                    "memory": memory.fileno(),
                    "dtype": tensor.dtype,
                    "shape": tensor.shape,
                }
            )

    def wait_until_ready(self, model: OfflineModel) -> None:
        """Wait for the model to be loaded.

        Raises:
            EngineUnavailableError: no runtime is installed.
            InferenceError: the runtime refused the model or the device.
        """
        reply, compiled_for = self._receive(str(model.path)), model.manifest.device
        other = reply.get("soc") and compiled_for and reply["soc"].lower() != compiled_for.lower()
        chips = f"it was compiled for {compiled_for}, device {self.number} is {reply.get('soc')}"
        if reason := reply.get("unavailable"):
            raise EngineUnavailableError(f"{model.path}: Ascend CANN cannot run it here: {reason}")
        if reason := reply.get("error"):
            raise InferenceError(
                f"{model.path}: Ascend CANN cannot open it on device {self.number}: {reason}"
                + (f"; {chips}: compile it with --soc-version {reply['soc']}" if other else "")
            )
        if other:
            _log.warning("%s: %s; it opened all the same", model.path, chips)
        self.runtime = reply["ready"]

    def infer(self, batch: np.ndarray, where: str) -> np.ndarray:
        """Run one batch; `where` names the model in errors."""
        np.copyto(self._input, batch)
        self._send({})
        reply = self._receive(where)
        if reason := reply.get("error"):
            raise InferenceError(f"{where}: Ascend CANN failed on device {self.number}: {reason}")
        scores = np.empty(reply["shape"], np.float32)
        assert self._process.stdout is not None
        if self._process.stdout.readinto(memoryview(scores).cast("B")) != scores.nbytes:
            raise self._died(where)
        return scores

    def close(self) -> None:
        """End the process; calling it twice is fine."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # it had died with a request unread
                    stream.close()
        try:
            self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it died; receiving says how
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _receive(self, where: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        raise self._died(where)

    def _died(self, where: str) -> EngineDiedError:
        code = self._process.wait()
        self._errors.seek(0)
        last = last_line(self._errors.read().decode(errors="replace"))
        return EngineDiedError(
            f"{where}: Ascend CANN's process for device {self.number} died ({ending(code)}): {last}; open it again"
        )


def ask_soc() -> str | None:
    """Name of the chip in this machine, such as Ascend310P3; None where there is none to ask."""
    done = subprocess.run(
        [sys.executable, "-P", _WORKER], input=b'{"ask": "soc"}\n', stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return json.loads(done.stdout)["soc"] if done.returncode == 0 else None
