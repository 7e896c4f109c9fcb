"""Where targets put the input that their parsers want as a file: one temporary directory per process."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path


@cache
def scratch() -> Path:
    """This process's directory; it goes when the process ends."""
    home = Path(tempfile.mkdtemp(prefix="modelport-fuzz-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """What reads bytes as a file of this name. `name` has a directory, which the file has to itself."""

    def parse(data: bytes) -> object:
        path = scratch() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return read(path)

    return parse


def in_directory(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Likewise, where what is read is the file's directory."""
    return in_file(name, lambda path: read(path.parent))
