"""Where the bytes of one image are: what reads like a file, without being one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from . import limits
from .errors import DataError
from .files import read_regular


class Stat(Protocol):
    """What changes when an image may have changed, in the words of `os.stat`."""

    @property
    def st_size(self) -> int | None: ...  # None: only reading would tell

    @property
    def st_mtime_ns(self) -> int: ...


class Origin(Protocol):
    """Where the bytes of one image are; its `str` names the place in messages. A `Path` is one. Small, and can be pickled."""

    def read_bytes(self) -> bytes:
        """All of them; OSError where they cannot be read."""
        ...

    def stat(self) -> Stat:
        """Their number, and when they changed last, as cheaply as can be; OSError where they are not there."""
        ...


def location(text: Path | str) -> Path | str:
    """A place that images come from, as it is given: a path, or a URL such as `s3://bucket/folder`, which is no path."""
    return text if "://" in str(text) else Path(text)


def read_bytes(origin: Origin) -> bytes:
    """The bytes at a place; DataError where they cannot be read, or a path is no file or larger than any image that is decoded."""
    try:
        return read_regular(origin, limits.IMAGE_BYTES) if isinstance(origin, Path) else origin.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error
