"""`pack`: images into tar or Parquet shards with an index, so that a store is asked for a few large files instead of many small."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from . import files
from .data.decode import Decoder
from .data.labels import label_key, read_labels
from .data.predictions import writing
from .data.source import PIXELS_SUFFIX, RAW_SUFFIX, Sample, Source, open_source
from .data.sources.index import INDEX_FILE, MEMBERS, MEMBERS_FILE, Index, Shard
from .data.sources.writers import WRITERS, Packed
from .errors import DataError, FormatError, StoppedError
from .host import usable_cores
from .journal import JournalFile, open_journal
from .progress import Progress, silent
from .schema import JSON_ERRORS
from .spec import Preprocess
from .stopping import draining

_JOURNAL = ".packing.jsonl"
log = logging.getLogger("modelport")


@dataclass(frozen=True, kw_only=True, slots=True)
class PackOptions:
    """What the shards are.

    Attributes:
        kind: tar (WebDataset's) or parquet (Hugging Face's).
        shard_images: images in a shard at most.
        shard_bytes: a shard is full, too, once its images have so many bytes.
        pixels: keep resized and cropped pixels, uint8, instead of the images' files: for models with this preprocessing only.
    """

    kind: Literal["tar", "parquet"] = "tar"
    shard_images: int = 10_000
    shard_bytes: int = 1 << 30
    pixels: Preprocess | None = None


def pack(  # noqa: PLR0913
    images: Source | Path | str,
    output: Path | str,
    *,
    labels: Path | str | None = None,
    options: PackOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Index:
    """Write images into shards in `output`, with `index.json` and `members.pq` beside them.

    The shards are collected in a hidden directory beside `output`, which becomes `output` when all are there. Killed or stopped,
    the same call goes on with the shards that are complete there. The same images make the same bytes.

    Args:
        images: a planned source, or whatever `open_source` takes.
        output: directory to make.
        labels: label file; its classes go into the shards.
        options: kind and size of the shards; pixels.
        force: replace an `output` that was packed.

    Raises:
        DataError: an image cannot be read, or, for pixels, decoded. What is packed already is kept.
        OutputError: `output` exists, or holds something else, or another run is writing it.
        StoppedError: a signal came.
    """
    output, options = Path(output), options or PackOptions()
    files.refuse_existing(output, force=force)
    files.refuse_foreign(output, INDEX_FILE)
    source = images if isinstance(images, Source) else open_source(images)
    if labels is not None:
        source = source.labelled(read_labels(labels))
    home = output.with_name(f".{output.name}.packing")
    with open_journal(home / _JOURNAL) as journal:
        index = _Packing(home, journal, source, options).run(progress)
        with files.reporting(output):
            files.replace_directory(home, output, marker=INDEX_FILE)
            (output / _JOURNAL).unlink()
    return index


class _Packing:
    """Fills a directory with shards and keeps a journal of those that are durable."""

    def __init__(self, home: Path, journal: JournalFile, source: Source, options: PackOptions) -> None:
        self._home, self._journal, self._source, self._options, self._stop = home, journal, source, options, Event()
        self._decoder = Decoder(options.pixels) if options.pixels else None
        wanted = asdict(options) | {"pixels": options.pixels and options.pixels.jsonable()}
        head = json.dumps({"images": source.digest(), **wanted}).encode()
        self._done = self._listed(journal.lines[1:]) if journal.lines[:1] == [head] else []
        if not self._done:
            journal.clear()
            journal.append(head.decode())

    def run(self, progress: Progress) -> Index:
        """Write the shards that are missing, then the index."""
        self._remove_strays()
        total, place = len(self._source), sum(shard.images for shard in self._done)
        if place:
            log.info("%s: %d of %d images are packed already", self._home, place, total)
        with draining(self._stop.set), ThreadPoolExecutor(usable_cores()) as pool:
            images = self._packed(pool, place)
            while place < total:
                shard = self._write(images, len(self._done))
                self._journal.append(shard.model_dump_json())
                self._done.append(shard)
                place += shard.images
                progress("pack", place, total)
        self._write_members()
        pixels = self._options.pixels
        index = Index(
            kind=self._options.kind,
            images=total,
            preprocess=pixels,
            pixels=pixels and pixels.pixels_digest,
            shards=tuple(self._done),
        )
        index.write(self._home / INDEX_FILE)
        for number in range(len(self._done)):
            self._rows(number).unlink()
        return index

    def _listed(self, lines: list[bytes]) -> list[Shard]:
        """Shards from the first on that are there whole."""
        done: list[Shard] = []
        for line in lines:
            try:
                shard = Shard.parse(json.loads(line), _JOURNAL)
            except (*JSON_ERRORS, FormatError):
                break
            path, rows = self._home / shard.name, self._rows(len(done))
            if not (path.is_file() and path.stat().st_size == shard.bytes and rows.is_file()):
                break
            done.append(shard)
        return done

    def _remove_strays(self) -> None:
        """What a killed run left half done."""
        kept = {_JOURNAL} | {shard.name for shard in self._done}
        kept |= {self._rows(number).name for number in range(len(self._done))}
        for entry in self._home.iterdir():
            if entry.name not in kept:
                entry.unlink()

    def _packed(self, pool: ThreadPoolExecutor, place: int) -> Iterator[Packed]:
        """The images from a place on, in order, read and decoded a few ahead."""
        samples, ahead = iter(self._source.samples[place:]), deque[Future[Packed]]()
        ahead.extend(pool.submit(self._pack, sample) for sample in islice(samples, 4 * usable_cores()))
        while ahead:
            if self._stop.is_set():
                packed = sum(shard.images for shard in self._done)
                raise StoppedError(
                    f"stopped; {packed:,} of {len(self._source):,} images are packed and kept: the same command goes on there"
                )
            image = ahead.popleft().result()
            ahead.extend(pool.submit(self._pack, sample) for sample in islice(samples, 1))
            yield image

    def _pack(self, sample: Sample) -> Packed:
        parts = PurePosixPath(sample.key).parts
        if ".." in parts or sample.key.startswith("/"):
            raise DataError(
                f"{sample.origin}: its name {sample.key!r} leads out of a shard; list it from where it lies"
            )
        try:
            data, name = sample.read(), sample.key
            if self._decoder is not None:
                if sample.suffix == RAW_SUFFIX:
                    raise DataError("is preprocessed float32 data already; pixels are made from images")
                data = self._decoder.pixels_of(sample, data).tobytes()
                name = f"{label_key(name)}{PIXELS_SUFFIX}{self._decoder.preprocess.pixels_digest}"
        except DataError as error:
            raise DataError(
                f"{sample.origin}: {error}; take it out of the images, or replace it, and pack again"
            ) from error
        return Packed(sample.key, name, sample.label, data)

    def _write(self, images: Iterator[Packed], number: int) -> Shard:
        """The next shard and its rows of the index; on return both are durable."""
        path, rows, size = self._home / f"{number:06d}.{self._options.kind}", list[dict[str, Any]](), 0
        with files.atomic_path(path) as temporary, closing(WRITERS[self._options.kind](temporary)) as writer:
            for image in images:
                rows.append(writer.add(image) | {"shard": number})
                size += len(image.data)
                if len(rows) == self._options.shard_images or size >= self._options.shard_bytes:
                    break
        with files.atomic_path(self._rows(number)) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, MEMBERS), temporary)
        return Shard(name=path.name, bytes=path.stat().st_size, sha256=files.digest(path), images=len(rows))

    def _rows(self, number: int) -> Path:
        return self._home / f".{number:06d}.rows.parquet"

    def _write_members(self) -> None:
        with writing(self._home / MEMBERS_FILE, MEMBERS) as members:
            for number in range(len(self._done)):
                members.write(pq.read_table(self._rows(number)))
