"""A flat folder, or one with a folder for each class."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from ...errors import DataError
from ...printable import printable
from ..source import IMAGE_SUFFIXES, PIXELS_SUFFIX, RAW_SUFFIX, Sample
from .place import Place, Remote

log = logging.getLogger("modelport")


def accepts(place: Place) -> bool:
    """Any folder."""
    return place.is_dir()


def plan(places: list[Place]) -> Iterator[Sample]:
    """Images in sorted order of their names; the classes are numbered in natural order of theirs, as timm does, empty ones included."""
    for place in places:
        yield from _folder(place)


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which `2` comes before `10`, and case does not matter."""
    return tuple(
        (0, int(part)) if part.isascii() and part.isdigit() else (1, part.lower())
        for part in re.split(r"([0-9]+)", name)
    )


def _folder(place: Place) -> Iterator[Sample]:
    entries = sorted(place.iterdir(), key=lambda entry: entry.name)
    flat = [Sample(printable(entry.name), entry) for entry in entries if is_input(entry.name)]
    folders = (entry for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    classes = sorted(folders, key=lambda entry: natural_key(entry.name))
    if flat:
        if unread := [folder.name for folder in classes if any(is_input(entry.name) for entry in folder.iterdir())]:
            log.warning(
                "%s: taken as a flat folder of %d images; those in %s/ are not read", place, len(flat), unread[0]
            )
        yield from flat
        return
    for label, folder in enumerate(classes):
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if is_input(entry.name):
                yield Sample(printable(f"{folder.name}/{entry.name}"), entry, label)


def is_input(name: str) -> bool:
    """Whether a file of this name is an image, or prepared data."""
    suffix = PurePosixPath(name).suffix.lower()
    known = suffix in (*IMAGE_SUFFIXES, RAW_SUFFIX) or suffix.startswith(PIXELS_SUFFIX)
    return known and not name.startswith(".")


def shards_in(place: Place, suffix: str) -> list[Place]:
    """The shards that a folder holds; none where it holds images or folders besides, which it is then taken for."""
    if not place.is_dir():
        return []
    shards = []
    for entry in place.iterdir():
        if entry.name.startswith("."):
            continue
        if (
            is_input(entry.name) or entry.is_dir()
        ):  # most often at the first, so that large folders are not gone through
            return []
        if entry.suffix.lower() == suffix:
            shards.append(entry)
    return sorted(shards, key=lambda entry: entry.name)


def required(place: Place) -> Place:
    """A shard, with what is known of it; DataError where it is missing."""
    try:
        if isinstance(place, Remote):
            return place.settled()
        place.stat()
    except FileNotFoundError as error:
        raise DataError(f"{place}: this shard is missing; put it back, or leave it out of the pattern") from error
    return place
