"""JSON lines that are on disk before the next thing happens: what a killed run has finished, it still has when it is run again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import files
from .errors import OutputError


class JournalFile:
    """An open journal. `lines` are those that it held when it was opened; a last one without its end was being written at a kill
    and is cut off."""

    def __init__(self, handle: int, path: Path) -> None:
        self._handle, self.path = handle, path
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.ftruncate(handle, whole)
        self.lines = text[:whole].splitlines()

    def append(self, line: str) -> None:
        """Add a line; on return it is on disk."""
        with files.reporting(self.path):
            data = line.encode() + b"\n"
            while data:
                data = data[os.write(self._handle, data) :]
            os.fsync(self._handle)

    def clear(self) -> None:
        """Begin anew."""
        with files.reporting(self.path):
            os.ftruncate(self._handle, 0)
            os.fsync(self._handle)
        self.lines = []


@contextmanager
def open_journal(path: Path) -> Iterator[JournalFile]:
    """Open or make a journal, for one process at a time; the system lifts the lock when the process ends, however it ends.

    Raises:
        OutputError: another process has it open, or it cannot be written.
    """
    with files.reporting(path):
        made = not path.exists()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        if made:
            files.fsync(path.parent)
    try:
        _lock(handle, path)
        yield JournalFile(handle, path)
    finally:
        os.close(handle)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Have an output directory to oneself; it is made where it is not there.

    Raises:
        OutputError: another process has it.
    """
    path = directory / files.LOCK_FILE
    with files.reporting(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(handle, path)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OutputError(f"{path}: another run is writing here; wait for it, or choose another output") from error
