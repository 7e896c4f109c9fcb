"""The kinds of places that images come from. Adding one costs a file, which has `accepts` and `plan`, and a row here."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from ...errors import DataError
from ..source import Sample
from .place import Place, as_place, expanded, reporting

_KINDS = (  # modules in this package; the first that accepts the place has it
    "index",  # what `pack` wrote
    "info",
    "listing",
    "tar",
    "parquet",
    "folder",
)


def plan(text: Path | str) -> Iterator[Sample]:
    """The images at a place, one after the other: only what names them is read, and no more of it than is asked for.

    Raises:
        DataError: nothing is there, it cannot be read, or it is damaged.
        FormatError: a list or an index does not hold what it should.
    """
    with reporting(text):
        places = [as_place(name) for name in expanded(str(text))]
    for name in _KINDS:
        kind = import_module(f".{name}", __name__)
        with reporting(text):
            accepted = kind.accepts(places[0])
        if accepted:
            return _reported(text, kind.plan(places))
    return iter(_one_by_one(text, places))


def _reported(text: Path | str, samples: Iterator[Sample]) -> Iterator[Sample]:
    with reporting(text):
        yield from samples


def _one_by_one(text: Path | str, places: list[Place]) -> list[Sample]:
    """Images that were named themselves."""
    for place in places:
        with reporting(place):
            if not place.is_file():
                raise DataError(
                    f"{place}: no such file or folder; images come from a folder, class subfolders, an .info or .txt list, "
                    "tar or Parquet shards, or a URL of any of these"
                )
    return [Sample(place.name, place) for place in places]
