"""One device's own process: opens an .om file with whichever Ascend runtime is installed, and runs batches on it.

Started by path and importing nothing of modelport, so that it is up as fast as the runtime. It speaks over stdin and
stdout: a request line, a reply line; then a line for each batch, answered by a line and the scores. The batch itself lies
in memory that both have mapped. Loading and running happen in one thread, which is what an ACL context belongs to.

Sources: API guides of ais_bench and aclruntime. Never run on a device here, only against stand-ins of the two.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, BinaryIO

import numpy as np

_NEITHER = (
    "neither ais_bench nor aclruntime is installed in this Python: install both wheels of Huawei's msit "
    "(components/benchmark), made for this CANN"
)


class AisBench:
    """`ais_bench.infer.interface.InferSession(device, model)`: device first."""

    name = "ais_bench"

    def __init__(self, device: int, model: str) -> None:
        from ais_bench.infer.interface import InferSession

        self._session = InferSession(device, model)

    def infer(self, batch: np.ndarray) -> Any:
        return self._session.infer([batch], mode="static")[0]

    def close(self) -> None:
        if free := getattr(self._session, "free_resource", None):  # missing in old versions
            free()


class AclRuntime:
    """`aclruntime.InferenceSession(model, device, options)`: model first."""

    name = "aclruntime"

    def __init__(self, device: int, model: str) -> None:
        import aclruntime

        self._binding = aclruntime
        self._session = aclruntime.InferenceSession(model, device, aclruntime.session_options())
        self._outputs = [output.name for output in self._session.get_outputs()]

    def infer(self, batch: np.ndarray) -> Any:
        address = batch.__array_interface__["data"][0]
        scores = self._session.run(self._outputs, [self._binding.BaseTensor(address, batch.nbytes)])[0]
        scores.to_host()
        return np.array(scores)

    def close(self) -> None:
        del self._session


class NotHere(Exception):
    """No runtime can be used."""


def open_runtime(device: int, model: str) -> AisBench | AclRuntime:
    """A session of ais_bench where that is installed, else of aclruntime."""
    for runtime in (AisBench, AclRuntime):
        try:
            return runtime(device, model)
        except ModuleNotFoundError as error:
            if error.name not in ("ais_bench", "aclruntime"):
                raise NotHere(f"{runtime.name} cannot be loaded ({error})") from error
        except ImportError as error:
            raise NotHere(f"{runtime.name} cannot be loaded ({error}): source CANN's set_env.sh") from error
    raise NotHere(_NEITHER)


def soc_name() -> str | None:
    """Name of the chip, where CANN's Python binding is installed and says it."""
    try:
        import acl

        return str(acl.get_soc_name())
    except Exception:  # absent, or a binding without a driver; it is only asked to explain
        return None


def main() -> None:
    """Serve until stdin ends."""
    wire: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the runtime prints goes to stderr, and cannot be taken for a reply
    request = json.loads(sys.stdin.buffer.readline())
    if request.get("ask") == "soc":
        _reply(wire, soc=soc_name())
        return
    with os.fdopen(request["memory"], "r+b") as memory:
        # np.array, not memmap: ais_bench looks at the exact type.
        batch = np.asarray(np.memmap(memory, request["dtype"], "r+", shape=tuple(request["shape"])))
    try:
        session = open_runtime(request["device"], request["model"])
    except NotHere as error:
        _reply(wire, unavailable=str(error))
        return
    except Exception as error:  # the bindings raise unrelated classes
        _reply(wire, error=_first_line(error), soc=soc_name())
        return
    _reply(wire, ready=session.name, soc=soc_name())
    for _ in sys.stdin.buffer:
        try:
            scores = np.ascontiguousarray(session.infer(batch), dtype=np.float32)
        except Exception as error:
            _reply(wire, error=_first_line(error))
            continue
        _reply(wire, scores.tobytes(), shape=scores.shape)
    session.close()


def _reply(wire: BinaryIO, data: bytes = b"", **fields: Any) -> None:
    wire.write(json.dumps(fields).encode() + b"\n" + data)
    wire.flush()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    main()
