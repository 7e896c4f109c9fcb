"""Where images come from: a flat folder, class subfolders, an `.info` list, or one file. Planned by name, in sorted order."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError, FormatError
from ..printable import printable
from ..schema import read_lines
from .labels import label_key

log = logging.getLogger("modelport")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
RAW_SUFFIX = ".bin"  # the guide's preprocessed input: raw float32, CHW


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to classify.

    Attributes:
        key: its name in results, unique in a source and printable: the file's name, with the class folder before it where
            there is one.
        path: the file.
        label: its class, if known.
    """

    key: str
    path: Path
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A planned list of images, in the order of results."""

    where: str
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def limited(self, limit: int | None) -> Source:
        """The first `limit` images."""
        return self if limit is None else replace(self, samples=self.samples[:limit])

    def at(self, places: Iterable[int]) -> Source:
        """Only the images at these places."""
        return replace(self, samples=tuple(self.samples[place] for place in places))

    def labelled(self, labels: dict[str, int]) -> Source:
        """The same images with labels looked up by name; an image that `labels` lacks keeps its own, or none."""
        found = (replace(s, label=labels.get(label_key(s.key), s.label)) for s in self.samples)
        return replace(self, samples=tuple(found))

    def digest(self) -> str:
        """Changes when an image is added, removed, renamed, relabelled, or its file's size or time changes."""
        total = hashlib.sha256()
        for sample in self.samples:
            total.update(f"{sample.key}\0{sample.label}\0{_state(sample.path)}\n".encode())
        return total.hexdigest()


def open_source(path: Path | str) -> Source:
    """Plan the images at `path`.

    A directory that holds images is flat; one that holds only directories has a class in each, numbered in natural
    order of their names as timm does, empty ones included. A file that ends in `.info` is the guide's list; any other file is one image.

    Raises:
        DataError: nothing there, no image in it, a folder that cannot be listed, or two images would share a name.
        FormatError: an `.info` line is malformed; the message has its number.
    """
    path = Path(path)
    try:
        samples = _plan(path)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error
    if not samples:
        kinds = ", ".join(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
        raise DataError(f"{path}: holds no images (looked for {kinds}, here and one folder down)")
    _refuse_duplicates(path, samples)
    return Source(printable(str(path)), tuple(samples))


def _plan(path: Path) -> list[Sample]:
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".info":
        return _info(path)
    if path.is_file():
        return [Sample(printable(path.name), path)]
    raise DataError(f"{path}: no such file or folder; images come from a folder, class subfolders, or an .info list")


def _state(path: Path) -> str:
    try:
        state = os.stat(path)
    except OSError:
        return "absent"
    return f"{state.st_size} {state.st_mtime_ns}"


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which `2` comes before `10`, and case does not matter."""
    return tuple(
        (0, int(part)) if part.isascii() and part.isdigit() else (1, part.lower())
        for part in re.split(r"([0-9]+)", name)
    )


def _folder(path: Path) -> list[Sample]:
    entries = sorted(path.iterdir(), key=lambda entry: entry.name)
    flat = [Sample(printable(entry.name), entry) for entry in entries if _is_input(entry)]
    folders = (entry for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    classes = sorted(folders, key=lambda entry: natural_key(entry.name))
    if flat:
        if unread := [folder.name for folder in classes if any(map(_is_input, folder.iterdir()))]:
            log.warning(
                "%s: taken as a flat folder of %d images; those in %s/ are not read", path, len(flat), unread[0]
            )
        return flat
    return [
        Sample(printable(f"{folder.name}/{entry.name}"), entry, label)
        for label, folder in enumerate(classes)
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if _is_input(entry)
    ]


def _is_input(entry: Path) -> bool:
    suffix = entry.suffix.lower()
    return (suffix in IMAGE_SUFFIXES or suffix == RAW_SUFFIX) and not entry.name.startswith(".")


def _info(path: Path) -> list[Sample]:
    """Lines of `index path width height`; relative paths are looked up from here, then from beside the list."""
    samples = []
    for number, line in read_lines(path):
        match = re.fullmatch(r"(\d+) ([^\0]+) (\d+) (\d+)", line)
        if not match:
            raise FormatError(f"{path}:{number}: expected `index path width height`, got {line[:80]!r}")
        target = Path(match[2])
        if not target.is_absolute() and not os.path.exists(target):
            target = path.parent / target
        samples.append(Sample(printable(target.name), target))
    return samples


def _refuse_duplicates(path: Path, samples: list[Sample]) -> None:
    seen: dict[str, str] = {}
    for sample in samples:
        key = label_key(sample.key)
        if key in seen:
            raise DataError(
                f"{path}: {seen[key]!r} and {sample.key!r} share the name {key!r}, so labels cannot tell them apart"
            )
        seen[key] = sample.key
