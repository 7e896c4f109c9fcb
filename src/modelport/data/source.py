"""Images to classify: which there are, in which order, and how to read them. `sources` has the kinds of places they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePath

from ..errors import DataError
from ..origin import Origin, read_bytes
from ..printable import printable
from .labels import label_key

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
RAW_SUFFIX = ".bin"  # the guide's preprocessed input: raw float32, CHW
PIXELS_SUFFIX = ".u8-"  # and the digest of how they were made: resized and cropped pixels, uint8, HWC
PIECE = 4096  # images that are planned, or handed out, together


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to classify. It reads itself, wherever it is.

    Attributes:
        key: its name in results, unique in a source and printable: the file's name, with the class folder before it where
            there is one.
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

    @property
    def prepared(self) -> bool:
        """Whether its bytes are no image any more, but what was made of one."""
        return self.suffix == RAW_SUFFIX or self.suffix.startswith(PIXELS_SUFFIX)

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
        """sha256 of its bytes as they are now, or as its index states it; None where they cannot be read."""
        if self.sha256 is not None:
            return self.sha256
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
        """Changes when an image is added, removed, renamed, relabelled, or its file's size or time changes, or its digest
        in an index."""
        total = hashlib.sha256()
        for sample in self.samples:
            state = sample.sha256.hex() if sample.sha256 else _state(sample.origin)
            total.update(f"{sample.key}\0{sample.label}\0{state}\n".encode())
        return total.hexdigest()


def open_source(path: Path | str) -> Source:
    """Plan the images at `path`: a path or URL, or a pattern such as `shards/{000..099}.tar` or `*.parquet`.

    A folder that holds images is flat; one that holds only folders has a class in each, numbered in natural order of their
    names as timm does, empty ones included. Tar and Parquet shards, and `.info` and `.txt` lists, are told by their suffix
    or, a folder of shards, by its files. Any other file is one image.

    Raises:
        DataError: nothing there, no image in it, or two images would share a name.
        FormatError: a list or an index is malformed; the message has the line's number.
    """
    samples = tuple(_unlike(path, _planned(path)))
    if not samples:
        kinds = ", ".join(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
        raise DataError(f"{path}: holds no images (looked for {kinds}, here and one folder down)")
    return Source(printable(str(path)), samples)


def stream_source(path: Path | str, images: int = PIECE) -> Iterator[Source]:
    """Plan the images at `path` a piece at a time, for more of them than memory should hold.

    Indexed shards take no more memory however many they are. Elsewhere names are compared, which takes about half a kilobyte for each.

    Raises:
        DataError, FormatError: as `open_source` does, where the plan has come to what is wrong.
    """
    samples = _unlike(path, _planned(path))
    while piece := tuple(islice(samples, images)):
        yield Source(printable(str(path)), piece)


def _planned(path: Path | str) -> Iterator[Sample]:
    from .sources import plan  # which is built on this module

    return plan(path)


def _state(origin: Origin) -> str:
    try:
        state = origin.stat()
    except OSError:
        return "absent"
    return f"{state.st_size} {state.st_mtime_ns}"


def _unlike(path: Path | str, samples: Iterator[Sample]) -> Iterator[Sample]:
    """The same samples, as long as no two share a name. Those of an index have been compared when it was made."""
    seen: dict[str, Sample] = {}
    for sample in samples:
        if sample.sha256 is None and (earlier := seen.setdefault(key := label_key(sample.key), sample)) is not sample:
            first, second = repr(earlier.key), repr(sample.key)
            if first == second:  # in two shards, say
                first, second = str(earlier.origin), str(sample.origin)
            raise DataError(f"{path}: {first} and {second} share the name {key!r}, so labels cannot tell them apart")
        yield sample
