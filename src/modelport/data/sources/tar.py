"""WebDataset's shards: tar files with an image, and perhaps its class, under each key. Nothing is ever extracted.

The headers are walked by seeking over what lies between, so a shard in a store is asked for a piece at each image; an index,
which `modelport pack` writes, spares that. Format: https://github.com/webdataset/webdataset: a key is a member's name up to
the first dot of its last part, what follows is the kind of member.
"""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from ...errors import DataError
from ...printable import printable
from ..labels import label_key
from ..source import Sample
from .folder import is_input, required, shards_in
from .place import Known, Place, read_range, reporting

_MOST_LABEL = 1 << 20  # bytes of a class or JSON member
_CLASS_KEYS = ("label", "cls", "class")  # in a JSON member
log = logging.getLogger("modelport")


@dataclass(frozen=True, slots=True)
class Member:
    """A range of a tar's bytes."""

    shard: Place
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"

    def read_bytes(self) -> bytes:
        return read_range(self.shard, self.offset, self.size)

    def stat(self) -> Known:
        return Known(self.size, self.shard.stat().st_mtime_ns)


def accepts(place: Place) -> bool:
    """A tar, or a folder of tars."""
    if place.name.lower().endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")):
        raise DataError(
            f"{place}: is compressed, so that no image in it can be read by itself; decompress it to .tar first"
        )
    return place.suffix.lower() == ".tar" or bool(shards_in(place, ".tar"))


def plan(places: list[Place]) -> Iterator[Sample]:
    """The shards in order, in each the images in order; members of one key may lie apart from each other."""
    shards = [shard for place in places for shard in (shards_in(place, ".tar") or [required(place)])]
    log.info("%s: no index: the headers of %d shards are read", places[0], len(shards))
    for shard in shards:
        yield from _shard(shard)


def _shard(shard: Place) -> list[Sample]:
    images, labels = list[Member](), dict[str, int]()
    try:
        with reporting(shard), shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                name = printable(member.name.removeprefix("./"))
                found, file_name = Member(shard, name, member.offset_data, member.size), name.rpartition("/")[2]
                if member.isdir() or file_name.startswith("."):
                    continue
                if is_input(file_name):
                    if not member.isreg() or member.issparse():
                        raise DataError(
                            f"{found}: is a link, or stored with gaps, and not an image's bytes; pack it again"
                        )
                    images.append(found)
                elif _may_label(member) and (label := _label(found)) is not None:
                    labels[label_key(name)] = label
            _require_end(file, archive.offset, shard)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise DataError(
            f"{shard}: is no whole tar ({error}): it was cut off or damaged; copy or pack it again"
        ) from error
    return [Sample(image.name, image, labels.get(label_key(image.name))) for image in images]


def _may_label(member: tarfile.TarInfo) -> bool:
    return member.isreg() and member.size <= _MOST_LABEL and member.name.lower().endswith((".cls", ".json"))


def _label(member: Member) -> int | None:
    """The class that a member states; None of JSON that states none."""
    text = member.read_bytes()
    try:
        value = json.loads(text)
        if isinstance(value, dict):
            value = next((value[key] for key in _CLASS_KEYS if key in value), None)
            if value is None:
                return None
    except (ValueError, RecursionError):
        value = text
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(f"{member}: expected a class from 0, got {text[:40]!r}")
    return value


def _require_end(file: IO[bytes], offset: int, shard: Place) -> None:
    # tarfile takes the end of the file, or a damaged header, for the end of the archive
    file.seek(offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError(
            f"{shard}: is no whole tar (no end at byte {offset:,}): it was cut off or damaged; copy or pack it again"
        )
