"""The command line as a process, for work that others end or watch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


def start(*words: object, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """Begin a modelport command."""
    command = [sys.executable, "-m", "modelport", *map(str, words)]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **ENVIRONMENT, **environment},
    )


def modelport(*words: object, code: int = 0, cwd: Path | None = None, **environment: str) -> str:
    """Run a modelport command to its end, and return what it told on stderr: no traceback."""
    process = start(*words, cwd=cwd, **environment)
    _, told = process.communicate(timeout=280)
    assert process.returncode == code, told
    assert "Traceback" not in told
    return told
