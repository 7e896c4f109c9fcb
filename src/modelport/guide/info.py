"""`.info` files: the list of inputs that the benchmark tool reads, `index path width height`, one line each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..data.decode import open_image
from ..data.source import RAW_SUFFIX
from ..errors import DataError
from ..files import write_text
from ..origin import read_bytes
from ..printable import printable
from ..progress import Progress, silent

_JPEG_SUFFIXES = (".jpg", ".jpeg")


def write_bin_info(directory: Path | str, output: Path | str, width: int, height: int) -> int:
    """List the preprocessed `.bin` files of a directory, in sorted order, with the given width and height.

    Returns:
        The number of files.

    Raises:
        DataError: there are none, or a file's size does not fit the width and height.
    """
    paths = _list(Path(directory), (RAW_SUFFIX,), "preprocessed .bin files")
    for path in paths:
        size = path.stat().st_size
        if size == 0 or size % (width * height):
            raise DataError(
                f"{path}: holds {size:,} bytes, which is no number of {width}x{height} channels; wrong size?"
            )
    return _write(Path(output), [(path, width, height) for path in paths])


def write_jpg_info(directory: Path | str, output: Path | str, progress: Progress = silent) -> int:
    """List the JPEG files of a directory, in sorted order, each with its own width and height.

    Returns:
        The number of files.

    Raises:
        DataError: there are none, or one is no image.
    """
    paths = _list(Path(directory), _JPEG_SUFFIXES, "JPEG files")
    with ThreadPoolExecutor() as pool:
        rows = []
        for path, size in zip(paths, pool.map(_size, paths), strict=True):
            rows.append((path, *size))
            progress("get-info", len(rows), len(paths))
    return _write(Path(output), rows)


def _list(directory: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory")
    wanted: Callable[[Path], bool] = lambda path: path.suffix.lower() in suffixes and not path.name.startswith(".")  # noqa: E731
    paths = sorted(filter(wanted, directory.iterdir()))
    if not paths:
        raise DataError(f"{directory}: holds no {what}")
    if odd := next((path for path in paths if printable(str(path)) != str(path)), None):
        raise DataError(f"{directory}: {str(odd)!r} is a name that an .info line cannot hold: rename it")
    return paths


def _size(path: Path) -> tuple[int, int]:
    try:
        return open_image(read_bytes(path)).size
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _write(output: Path, rows: list[tuple[Path, int, int]]) -> int:
    write_text(
        output, "".join(f"{index} {path} {width} {height}\n" for index, (path, width, height) in enumerate(rows))
    )
    return len(rows)
