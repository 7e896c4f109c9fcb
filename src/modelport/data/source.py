"""Where images come from: a flat folder, class subfolders, an `.info` list, or one file. Planned by name, in sorted order."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from ..errors import DataError, FormatError
from ..origin import Origin, read_bytes
from ..schema import read_text
from .labels import label_key

log = logging.getLogger("modelport")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
RAW_SUFFIX = ".bin"  # the guide's preprocessed input: raw float32, CHW


PIECE = 4096  # images that are planned, or handed out, together


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to classify. It reads itself, wherever it is.

    Attributes:
        key: its name in results, unique in a source: the file's name, with the class folder before it where there is one.
        origin: where its bytes are.
        label: its class, if known.
        sha256: of its bytes, where an index states it: what is read is held against it.
    """

    key: str
    origin: Origin
    label: int | None = None
    sha256: bytes | None = None

    @property
    def suffix(self) -> str:
        """What kind of bytes they are, as a file's suffix in lower case."""
        return PurePath(str(self.origin)).suffix.lower()

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            DataError: they cannot be read, or are not those that the index states.
        """
        data = read_bytes(self.origin)
        if self.sha256 is not None and hashlib.sha256(data).digest() != self.sha256:
            raise DataError(
                "is not what its index lists (another sha256): it was changed or damaged since; pack it again"
            )
        return data

    def content(self) -> bytes | None:
        """sha256 of its bytes as they are now; None where they cannot be read."""
        try:
            return hashlib.sha256(self.read()).digest()
        except DataError:
            return None


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

    def shards(self, images: int = PIECE) -> Iterator[Source]:
        """Its images in pieces, in order, each to be worked on by itself, wherever: a piece can be pickled."""
        for start in range(0, len(self), images):
            yield replace(self, samples=self.samples[start : start + images])

    def labelled(self, labels: dict[str, int]) -> Source:
        """The same images with labels looked up by name; an image that `labels` lacks keeps its own, or none."""
        found = (replace(s, label=labels.get(label_key(s.key), s.label)) for s in self.samples)
        return replace(self, samples=tuple(found))

    def digest(self) -> str:
        """Changes when an image is added, removed, renamed, relabelled, or its file's size or time changes."""
        total = hashlib.sha256()
        for sample in self.samples:
            total.update(f"{sample.key}\0{sample.label}\0{_state(sample.origin)}\n".encode())
        return total.hexdigest()


def open_source(path: Path | str) -> Source:
    """Plan the images at `path`.

    A directory that holds images is flat; one that holds only directories has a class in each, numbered in natural
    order of their names as timm does, empty ones included. A file that ends in `.info` is the guide's list; any other file is one image.

    Raises:
        DataError: nothing there, no image in it, or two images would share a name.
        FormatError: an `.info` line is malformed; the message has its number.
    """
    path = Path(path)
    if path.is_dir():
        samples = _folder(path)
    elif path.suffix == ".info":
        samples = _info(path)
    elif path.is_file():
        samples = [Sample(_key(path.name), path)]
    else:
        raise DataError(
            f"{path}: no such file or folder; images come from a folder, class subfolders, or an .info list"
        )
    if not samples:
        kinds = ", ".join(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
        raise DataError(f"{path}: holds no images (looked for {kinds}, here and one folder down)")
    _refuse_duplicates(path, samples)
    return Source(str(path), tuple(samples))


def _state(origin: Origin) -> str:
    try:
        state = origin.stat()
    except OSError:
        return "absent"
    return f"{state.st_size} {state.st_mtime_ns}"


def _key(name: str) -> str:
    """A name that can be written as UTF-8: bytes that are none are shown as escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which `2` comes before `10`, and case does not matter."""
    return tuple(
        (0, int(part)) if part.isascii() and part.isdigit() else (1, part.lower())
        for part in re.split(r"([0-9]+)", name)
    )


def _folder(path: Path) -> list[Sample]:
    entries = sorted(path.iterdir(), key=lambda entry: entry.name)
    flat = [Sample(_key(entry.name), entry) for entry in entries if _is_input(entry)]
    folders = (entry for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    classes = sorted(folders, key=lambda entry: natural_key(entry.name))
    if flat:
        if unread := [folder.name for folder in classes if any(map(_is_input, folder.iterdir()))]:
            log.warning(
                "%s: taken as a flat folder of %d images; those in %s/ are not read", path, len(flat), unread[0]
            )
        return flat
    return [
        Sample(_key(f"{folder.name}/{entry.name}"), entry, label)
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
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"(\d+) (.+) (\d+) (\d+)", line.strip())
        if not match:
            raise FormatError(f"{path}:{number}: expected `index path width height`, got {line.strip()[:80]!r}")
        target = Path(match[2])
        if not target.is_absolute() and not target.exists():
            target = path.parent / target
        samples.append(Sample(_key(target.name), target))
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
