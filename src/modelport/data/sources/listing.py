"""A `.txt` list of images: a path or a URL on each line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import FormatError
from ...printable import printable
from ..source import Sample
from .folder import is_input
from .place import Place, as_place


def accepts(place: Place) -> bool:
    """A file of this name."""
    return place.suffix == ".txt" and not place.is_dir()


def plan(places: list[Place]) -> Iterator[Sample]:
    """In the lists' order. A relative path is looked up from beside its list and named as it is written; others by file name."""
    for place in places:
        for number, line in enumerate(_lines(place), start=1):
            text = line.strip()
            if not text:
                continue
            if not is_input(text.rpartition("/")[2]):
                raise FormatError(f"{place}:{number}: expected the path or URL of an image, got {text[:80]!r}")
            target = as_place(text)
            if isinstance(target, Path) and not target.is_absolute():
                yield Sample(printable(target.as_posix()), place.parent / text)
            else:
                yield Sample(printable(target.name), target)


def _lines(place: Place) -> list[str]:
    try:
        return place.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{place}: is not UTF-8 text (byte {error.start})") from error
