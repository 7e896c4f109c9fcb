"""Work in a child process, so that a crash or a hang of a vendor's code is a message and not our end.

The parent writes one JSON request to the child's stdin; the child answers with one marked line on stdout, since vendors'
code prints there as well. A child is ended together with all that it started, and ends itself where its parent has gone: an
orphan would disturb whatever is measured next.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import sleep
from typing import Any

from . import errors

_REPLY = "modelport-reply:"
_LOOK_S = 0.5  # how often a child looks whether its parent is still there


class ChildDiedError(Exception):
    """The child ended without an answer: `how` (signal or exit code), and the `last` line that it printed."""

    def __init__(self, how: str, last: str) -> None:
        super().__init__(f"died ({how}): {last}")
        self.how, self.last = how, last


class ChildTimeoutError(Exception):
    """The child was ended because it took too long."""


def ask(
    module: str, request: dict[str, Any], *, timeout: float | None = None, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run `python -m module` on a request and return its reply.

    Args:
        module: calls `answer` when run.
        request: plain JSON values.
        timeout: seconds until the child and its descendants are killed; None waits for ever.
        environment: variables that the child gets besides ours.

    Raises:
        ModelportError: whatever of these the child's work raised.
        ChildDiedError: it crashed.
        ChildTimeoutError: it took too long.
    """
    child = subprocess.Popen(
        command(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **(environment or {})},
    )
    try:
        out, err = child.communicate(json.dumps(request), timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise ChildTimeoutError(f"not done after {timeout:g} s and ended") from error
    finally:
        if child.returncode is None:  # too late, or we are interrupted ourselves
            end(child)
    line = next((line for line in out.splitlines() if line.startswith(_REPLY)), None)
    if child.returncode == 0 and line:
        reply = json.loads(line.removeprefix(_REPLY))
        if "error" in reply:
            raise getattr(errors, reply["error"])(reply["message"])
        return reply
    raise ChildDiedError(ending(child.returncode), last_line(err))


def answer(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's side: do the request on stdin and print the reply."""
    request = json.load(sys.stdin)
    end_with_parent()
    try:
        reply = work(request)
    except errors.ModelportError as error:
        reply = {"error": type(error).__name__, "message": str(error)}
    print(f"\n{_REPLY}{json.dumps(reply)}", flush=True)


def command(module: str) -> list[str]:
    """The command line that runs a module in a child."""
    # -P: nothing is imported from the working directory, where a user's numpy.py might lie.
    return [sys.executable, "-P", "-m", module]


def ending(code: int) -> str:
    """How a process ended, by its return code: such as SIGSEGV, or exit code 3."""
    return _signal_name(-code) if code < 0 else f"exit code {code}"


def last_line(printed: str) -> str:
    """What a child said last before it died."""
    return (printed.strip().splitlines()[-1:] or ["it printed nothing"])[0]


def end_with_parent() -> None:
    """In a child: end this process and all that it started when its parent has gone."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def end(child: subprocess.Popen[Any]) -> None:
    """Kill a child and all that it started."""
    _kill_descendants(child.pid)
    child.kill()
    with suppress(subprocess.TimeoutExpired):  # a daemon of the vendor's may hold our pipes
        child.communicate(timeout=5)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        sleep(_LOOK_S)
    _kill_descendants(os.getpid())
    os._exit(1)


def _kill_descendants(pid: int) -> None:
    import psutil

    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
