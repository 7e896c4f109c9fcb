"""Shards in the making: the same images make the same bytes, and each image's row of the index comes back."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from ..labels import label_key

_ROWS_PER_GROUP = 128  # as many images are read at once to have one of them
# Tells Hugging Face's `datasets` that the structs are images.
_FEATURES = {
    "key": {"dtype": "string", "_type": "Value"},
    "image": {"_type": "Image"},
    "label": {"dtype": "int64", "_type": "Value"},
}
_COLUMNS = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
        pa.field("label", pa.int64()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


@dataclass(frozen=True, slots=True)
class Packed:
    """An image as it goes into a shard: its key, its name there, its class, its bytes."""

    key: str
    name: str
    label: int | None
    data: bytes

    def row(self, group: int, offset: int) -> dict[str, Any]:
        """Its row of the index, without the shard's number."""
        return {
            "key": self.key,
            "label": self.label,
            "name": self.name,
            "group": group,
            "offset": offset,
            "size": len(self.data),
            "sha256": hashlib.sha256(self.data).digest(),
        }


class Writer(Protocol):
    """Writes one shard."""

    def add(self, image: Packed) -> dict[str, Any]:
        """Add an image; returns its row of the index."""
        ...

    def close(self) -> None:
        """Complete the file."""
        ...


class TarWriter:
    """A WebDataset shard: each image, then its class as `.cls`, if it has one."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add(self, image: Packed) -> dict[str, Any]:
        self._member(image.name, image.data)
        padded = -(-len(image.data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        row = image.row(0, self._tar.offset - padded)
        if image.label is not None:
            self._member(f"{label_key(image.name)}.cls", str(image.label).encode())
        return row

    def _member(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # with no time and no owner
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def close(self) -> None:
        self._tar.close()


class ParquetWriter:
    """A Parquet file as Hugging Face's `datasets` has them, with a `key`."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetWriter(path, _COLUMNS, compression="none", use_dictionary=False)
        self._rows: list[dict[str, Any]] = []
        self._group = 0

    def add(self, image: Packed) -> dict[str, Any]:
        row = image.row(self._group, len(self._rows))
        self._rows.append({"key": image.key, "image": {"bytes": image.data, "path": image.name}, "label": image.label})
        if len(self._rows) == _ROWS_PER_GROUP:
            self._write()
        return row

    def _write(self) -> None:
        self._file.write_table(pa.Table.from_pylist(self._rows, _COLUMNS), row_group_size=_ROWS_PER_GROUP)
        self._rows, self._group = [], self._group + 1

    def close(self) -> None:
        if self._rows:
            self._write()
        self._file.close()


WRITERS: dict[str, type[TarWriter] | type[ParquetWriter]] = {"tar": TarWriter, "parquet": ParquetWriter}
