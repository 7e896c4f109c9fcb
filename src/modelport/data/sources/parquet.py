"""Parquet with the images' bytes in it, as Hugging Face's data sets have it: `image` struct{bytes, path}, `label`.

A plan reads the columns that name and label the images, never `image.bytes`. Layout:
https://huggingface.co/docs/datasets/image_dataset. A `key` column names the images; else `image.path` does, else their rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError
from ...printable import printable
from ..source import Sample
from .folder import required, shards_in
from .place import Known, Place, reporting

_BYTES = ("image.bytes", "image")  # columns that hold them
_reading = Lock()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a row group. Rows that follow each other are cheap to read: their group is kept."""

    shard: Place
    name: str
    group: int
    row: int
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"

    def read_bytes(self) -> bytes:
        with _reading:  # not several times because several threads want the same group
            column = _images(self.shard, self.shard.stat().st_mtime_ns, self.group)
        value = column[self.row].as_py() if 0 <= self.row < len(column) else None
        if value is None:
            raise OSError("this row has no image.bytes")
        return value

    def stat(self) -> Known:
        return Known(self.size, self.shard.stat().st_mtime_ns)


def accepts(place: Place) -> bool:
    """A Parquet file, or a folder of these."""
    return place.suffix.lower() == ".parquet" or bool(shards_in(place, ".parquet"))


def plan(places: list[Place]) -> Iterator[Sample]:
    """The shards in order, in each the rows in order."""
    for place in places:
        for shard in shards_in(place, ".parquet") or [required(place)]:
            yield from _shard(shard)


def _shard(shard: Place) -> Iterator[Sample]:
    with opened(shard) as file:
        leaves = [file.schema.column(index).path for index in range(len(file.schema))]
        if not set(_BYTES) & set(leaves):
            raise DataError(
                f"{shard}: has no column `image` of struct{{bytes, path}} or bytes; its columns: {', '.join(leaves)}"
            )
        wanted = [name for name in ("key", "image.path", "label") if name in leaves]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=wanted) if wanted else None
            count = file.metadata.row_group(group).num_rows
            if table is not None and table.num_rows != count:
                raise DataError(
                    f"{shard}: row group {group} has {table.num_rows} rows, not {count}: it was damaged; copy it again"
                )
            keys, names, labels = (_column(table, name, count) for name in ("key", "image.path", "label"))
            for row in range(count):
                for text in (keys[row], names[row]):
                    if not isinstance(text, str | None):
                        raise DataError(
                            f"{shard}: expected names as text in `key` and `image.path`, got {str(text)[:40]!r}"
                        )
                name = names[row] or f"{PurePosixPath(shard.name).stem}-{group:04d}-{row:06d}"
                yield Sample(
                    printable(keys[row] or name), Row(shard, name, group, row), _class(labels[row], shard, name)
                )


def _column(table: pa.Table | None, path: str, count: int) -> list[Any]:
    outer, _, inner = path.partition(".")
    if table is None or outer not in table.column_names:
        return [None] * count
    values = table[outer].to_pylist()
    return [value and value.get(inner) for value in values] if inner else values


def _class(label: Any, shard: Place, name: str) -> int | None:
    if label is None or label == -1:  # -1 is how Hugging Face's unlabelled test sets have it
        return None
    if not isinstance(label, int) or label < 0:
        raise DataError(f"{shard}: {name}: expected a class from 0 in column `label`, got {label!r}")
    return label


@contextmanager
def opened(shard: Place) -> Iterator[pq.ParquetFile]:
    """A Parquet file, wherever it is; DataError where it cannot be read."""
    try:
        with reporting(shard), shard.open("rb") as stream, pq.ParquetFile(stream) as file:
            yield file
    except (pa.ArrowException, UnicodeDecodeError) as error:  # names of columns are decoded by pyarrow itself
        problem = str(error).splitlines()[0]
        raise DataError(
            f"{shard}: is no whole Parquet file ({problem}): it was cut off or damaged; copy it again"
        ) from error


@lru_cache(maxsize=2)
def _images(shard: Place, changed: int, group: int) -> pa.ChunkedArray:
    """The bytes of a row group's images; `changed` tells a file from another of its name."""
    with opened(shard) as file:
        if not 0 <= group < file.num_row_groups:
            raise OSError(f"{shard} has no row group {group}")
        leaves = {file.schema.column(index).path for index in range(len(file.schema))}
        table = file.read_row_group(group, columns=["image.bytes" if "image.bytes" in leaves else "image"])
    column = table["image"].combine_chunks()
    return column.field("bytes") if pa.types.is_struct(column.type) else column
