"""How fast a directory's disk is, in half a second: writing until it is durable, reading, and making four kilobytes durable."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import psutil

from ..errors import OutputError
from ..results import Disk

_PIECE = 1 << 20
_MOST_PIECES = 64
_WRITE_S = 0.4  # and what fsync takes then
_COMMITS = 8
_COMMIT_S = 0.3
_IN_MEMORY = ("tmpfs", "ramfs")


def measure_disk(directory: Path | str) -> Disk:
    """Measure with a file of at most 64 MiB, which is removed again.

    Raises:
        OutputError: nothing can be written there.
    """
    directory = Path(directory)
    try:
        with tempfile.TemporaryFile(prefix=".modelport-disk-", dir=directory) as file:
            handle = file.fileno()
            size, write = _write(handle)
            forgotten = _forget(handle) and filesystem(directory) not in _IN_MEMORY
            read = _read(handle)
            commit = _commit(handle)
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise OutputError(f"{directory}: its disk cannot be measured: {error.strerror or error}") from error
    return Disk(
        path=str(directory),
        filesystem=filesystem(directory),
        free=free,
        file_bytes=size,
        written_a_second=write,
        read_a_second=read,
        forgotten=forgotten,
        commit_ms=commit * 1e3,
    )


def filesystem(directory: Path) -> str:
    """Kind of the file system that a directory lies on, such as ext4; empty where the system does not say."""
    place = directory.resolve()
    above = (place, *place.parents)
    known = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((known[path] for path in above if path in known), "")


def _write(handle: int) -> tuple[int, float]:
    """Bytes written, and bytes a second until they are durable. Random, since some disks compress."""
    piece, size, start = os.urandom(_PIECE), 0, perf_counter()
    while size < _MOST_PIECES * _PIECE and perf_counter() - start < _WRITE_S:
        size += os.write(handle, piece)
    os.fsync(handle)
    return size, size / (perf_counter() - start)


def _forget(handle: int) -> bool:
    """Ask the system to forget the file's pages, so that reading it reads the disk."""
    if not hasattr(os, "posix_fadvise"):
        return False
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _read(handle: int) -> float:
    os.lseek(handle, 0, os.SEEK_SET)
    start = perf_counter()
    size = sum(_pieces(handle, start))
    return size / (perf_counter() - start)


def _pieces(handle: int, start: float) -> Iterator[int]:
    while perf_counter() - start < _WRITE_S and (count := len(os.read(handle, _PIECE))):
        yield count


def _commit(handle: int) -> float:
    """Seconds until four more kilobytes are durable: the median of a few."""
    taken: list[float] = []
    block = os.urandom(4096)
    while len(taken) < _COMMITS and sum(taken) < _COMMIT_S:
        start = perf_counter()
        os.write(handle, block)
        os.fsync(handle)
        taken.append(perf_counter() - start)
    return statistics.median(taken)
