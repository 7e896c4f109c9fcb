"""Vendors' telemetry off, before their packages are imported: nothing is reported, and no client's number is kept."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

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


def elsewhere(environment: Mapping[str, str], home: Path) -> dict[str, Literal["off", "on", "not decided"]]:
    """What the vendors' packages do in a user's other programs, by product: by their own switches, nothing is imported.

    Args:
        environment: as it was before `switch_off`.
        home: the user's home directory.
    """
    consent = {"0": "off", "1": "on"}.get(_content(home / "intel" / _REPORTER), "not decided")
    ray = {"0": "off", "1": "on"}.get(environment.get("RAY_USAGE_STATS_ENABLED", ""))
    if ray is None:
        config = environment.get("RAY_USAGE_STATS_CONFIG_PATH") or home / ".ray" / "config.json"
        said_no = re.search(r'"usage_stats"\s*:\s*false', _content(Path(config)))
        ray = "off" if said_no else "on"  # where nobody decided, it reports
    # ONNX Runtime collects in builds that were made with it unless the variable forbids it.
    runtime = "off" if environment.get("ORT_DISABLE_TELEMETRY") == "1" else "not decided"
    return {"OpenVINO and NNCF": consent, "ONNX Runtime": runtime, "Ray": ray}  # type: ignore[dict-item]


def _content(path: Path) -> str:
    try:
        return " ".join(path.read_text(encoding="utf-8", errors="replace")[:4096].split())
    except OSError:
        return ""
