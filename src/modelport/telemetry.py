"""Vendors' telemetry off, before their packages are imported: nothing is reported, and no client's number is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# ONNX Runtime reads its variable when it is loaded: its own call, afterwards, comes after a database was made under the home
# directory. Children inherit it, and the packages that bring ONNX Runtime along (NNCF) find it. Ray's is read when Ray is
# imported, and by all that it starts.
_SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_REPORTER = "openvino_telemetry"  # importing OpenVINO or NNCF where it is there writes a client's number to ~/intel


def switch_off() -> None:
    """For this process and its children, from here on."""
    os.environ.update(_SWITCHES)


@contextmanager
def without_reporter() -> Iterator[None]:
    """Import OpenVINO's packages as if their reporter was not installed; a program that has imported it itself keeps it."""
    switch_off()
    if _REPORTER in sys.modules:
        yield
        return
    sys.modules[_REPORTER] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_REPORTER]


def refuse_reporter() -> None:
    """The same for all of a child process, whose packages import each other late."""
    switch_off()
    sys.modules[_REPORTER] = None  # type: ignore[assignment]
