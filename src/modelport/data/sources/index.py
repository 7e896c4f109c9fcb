"""Shards with an index, as `modelport pack` writes them: what is where is read from it, a few thousand images at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pyarrow as pa

from ...errors import DataError, FormatError
from ...printable import printable
from ...schema import Record, parse_json
from ...spec import Preprocess
from ..source import Sample
from .folder import required
from .parquet import Row, opened
from .place import Place, reporting
from .tar import Member

INDEX_FILE = "index.json"
MEMBERS_FILE = "members.pq"  # not .parquet: a pattern of shards does not mean it
MEMBERS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.int64()),
        pa.field("shard", pa.int32(), nullable=False),  # its place in the index
        pa.field("name", pa.string(), nullable=False),  # in the shard
        pa.field("group", pa.int32(), nullable=False),  # Parquet: row group; tar: 0
        pa.field("offset", pa.int64(), nullable=False),  # tar: of the first byte; Parquet: of the row in its group
        pa.field("size", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
    ]
)


class Shard(Record):
    """A shard: its file's name beside the index, its size and digest, and how many images it holds."""

    name: str
    bytes: int
    sha256: str
    images: int


class Index(Record):
    """`index.json`. No two images share a key: `pack` saw to it.

    Attributes:
        kind: what the shards are.
        images: in all.
        preprocess: how the images were resized and cropped, where the shards hold pixels.
        pixels: digest of what of it makes the pixels.
        shards: in the order of the images.
    """

    format: Literal["modelport.shards"] = "modelport.shards"
    format_version: Literal[1] = 1
    kind: Literal["tar", "parquet"]
    images: int
    preprocess: Preprocess | None = None
    pixels: str | None = None
    shards: tuple[Shard, ...]


def accepts(place: Place) -> bool:
    """A folder with such an index, or the index itself."""
    path = _index(place)
    return path.is_file() and b'"modelport.shards"' in path.read_bytes()[:200]


def plan(places: list[Place]) -> Iterator[Sample]:
    """The images in the order in which they were packed."""
    if len(places) > 1:
        raise DataError(f"{places[0]} and {places[1]}: one index at a time; images of two may share names")
    for place in places:
        home, index = _index(place).parent, read_index(place)
        there = {entry.name: entry for entry in home.iterdir()}  # all at once: a store is asked once, not for each
        shards = [_checked(home, there.get(shard.name), shard) for shard in index.shards]
        with opened(home / MEMBERS_FILE) as file:
            if not file.schema_arrow.equals(MEMBERS):
                raise FormatError(
                    f"{home / MEMBERS_FILE}: its columns are not those that `modelport pack` writes; pack again"
                )
            if file.metadata.num_rows != index.images:
                raise FormatError(
                    f"{home / MEMBERS_FILE}: lists {file.metadata.num_rows:,} images, {INDEX_FILE} {index.images:,}; pack again"
                )
            for group in range(file.num_row_groups):
                for row in file.read_row_group(group).to_pylist():
                    if not 0 <= row["shard"] < len(shards):
                        raise FormatError(
                            f"{home / MEMBERS_FILE}: {row['key']!r} is in shard {row['shard']}, the index lists {len(shards)}; pack again"
                        )
                    yield _sample(row, shards[row["shard"]], index.kind)


def read_index(place: Place) -> Index:
    """The index of a folder of shards."""
    path = _index(place)
    with reporting(path):
        text = path.read_bytes()
    return Index.parse(parse_json(text, str(path)), str(path))


def _index(place: Place) -> Place:
    return place if place.name == INDEX_FILE else place / INDEX_FILE


def _checked(home: Place, place: Place | None, shard: Shard) -> Place:
    if place is None:  # a name with a folder in it, too, which might lead elsewhere
        raise DataError(f"{home / printable(shard.name)}: this shard is missing; put it back, or pack again")
    size = required(place).stat().st_size
    if size != shard.bytes:
        raise DataError(
            f"{place}: has {size:,} bytes, its index lists {shard.bytes:,}: it was cut off or changed; copy it again, or pack again"
        )
    return place


def _sample(row: dict[str, Any], shard: Place, kind: str) -> Sample:
    origin = (
        Member(shard, row["name"], row["offset"], row["size"])
        if kind == "tar"
        else Row(shard, row["name"], row["group"], row["offset"], row["size"])
    )
    return Sample(row["key"], origin, row["label"], row["sha256"])
