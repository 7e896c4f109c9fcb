"""Files that are either whole or not there: digests, atomic writes, and output that is never overwritten by accident."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError

LOCK_FILE = ".lock"  # in a directory that one run has to itself; it stays there


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def refuse_existing(path: Path, *, force: bool, reuse_empty: bool = True) -> None:
    """Raise OutputError if `path` exists and `force` is off; an empty directory counts as absent."""
    if force or not os.path.lexists(path):
        return
    if reuse_empty and path.is_dir() and not _contents(path):
        return
    raise OutputError(f"{path} exists already: choose another output, or pass --force to replace it")


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Make the directory of `path`, and turn what the system refuses meanwhile into an OutputError that names it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def fsync(path: Path) -> None:
    """Make a file or directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is made durable and renamed, on failure it is removed."""
    path = Path(path)
    with reporting(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())
            fsync(temporary)
            os.replace(temporary, path)
            fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file atomically, as UTF-8."""
    write_bytes(path, text.encode())


@contextmanager
def new_directory(path: Path, *, marker: str, force: bool = False) -> Iterator[Path]:
    """Yield a temporary directory that becomes `path` on success; with `force` an existing one is replaced whole.

    Args:
        path: the directory to make.
        marker: a file that every directory of this kind holds; one without it is never removed, `force` or not.
        force: replace an existing directory of this kind.
    """
    path = Path(path)
    refuse_existing(path, force=force)
    refuse_foreign(path, marker)
    with reporting(path):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        with reporting(path):
            os.chmod(temporary, 0o777 & ~_umask())
            for file in temporary.rglob("*"):
                fsync(file)
            refuse_existing(path, force=force)  # another run may have made it meanwhile
            replace_directory(temporary, path, marker=marker)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_directory(new: Path, path: Path, *, marker: str) -> None:
    """Move `new` to `path`. What is there is moved aside first and then removed, so that it is never there by halves.

    Raises:
        OutputError: what is there does not hold `marker`.
    """
    refuse_foreign(path, marker)
    if path.is_dir():
        os.replace(path, path.with_name(f".{path.name[:100]}.{os.getpid()}.old.tmp"))
    os.replace(new, path)
    fsync(path.parent)
    for old in path.parent.glob(f".{glob.escape(path.name[:100])}.*.old.tmp"):
        shutil.rmtree(old, ignore_errors=True)


def remove_directory(path: Path, *, marker: str) -> None:
    """Remove a directory that holds `marker`, or nothing at all; other things are not ours to remove.

    Raises:
        OutputError: it holds something else.
    """
    refuse_foreign(path, marker)
    if path.is_dir():
        shutil.rmtree(path)


def empty_directory(path: Path, *, marker: str) -> None:
    """Remove what is in a directory that holds `marker`, or nothing at all, and is locked by this process.

    Raises:
        OutputError: it holds something else.
    """
    refuse_foreign(path, marker)
    with reporting(path):
        for entry in _contents(path):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _contents(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.name != LOCK_FILE]


def refuse_foreign(path: Path, marker: str) -> None:
    """Raise OutputError where `path` is no directory, or one that holds other things without `marker`."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise OutputError(
            f"{path}: is a file or link where a directory is to be made: remove it or choose another output"
        )
    if _contents(path) and not (path / marker).is_file():
        raise OutputError(f"{path}: holds other files ({marker} is not among them): not removed, choose another output")


def _umask() -> int:
    # The process's mask can only be read by setting it; mkstemp and mkdtemp make private files, results should not be.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
