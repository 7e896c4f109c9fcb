"""Predictions in the making: parts on disk, each whole or absent, so that a run that was killed goes on where it was.

A part holds the predictions of images that follow each other, and what their files contained. It is written to a temporary
name, made durable, renamed, and then listed in a journal with its digest: whatever instant a run dies at, what the journal
lists is true. An image counts as done only while its file still has the content that was classified; where it has another,
its batch is done again, and no more than that.
"""

from __future__ import annotations

import json
import logging
import os
from bisect import insort
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from .. import files
from ..errors import FormatError
from ..journal import JournalFile, open_journal
from ..schema import JSON_ERRORS, Record
from .predictions import Prediction, as_table
from .source import Source

DIRECTORY = ".parts"
JOURNAL = f"{DIRECTORY}/journal.jsonl"
_READERS = 4
log = logging.getLogger("modelport")


class Subject(Record):
    """The journal's first line: all that predictions depend on besides the images, by name, as a digest or in words."""

    format: Literal["modelport.parts"] = "modelport.parts"
    format_version: Literal[1] = 1
    what: dict[str, str]

    def differences(self, other: Subject) -> list[str]:
        """Names of what differs."""
        names = dict.fromkeys([*self.what, *other.what])
        return [name for name in names if self.what.get(name) != other.what.get(name)]


class Part(Record):
    """A line: the predictions of `images` images from place `start` on are in `file`; they took `seconds`."""

    start: int
    images: int
    file: str
    sha256: str
    seconds: float


class Finished(Record):
    """A line: all predictions are in the predictions file, whose digest this is; its parts have been removed."""

    finished: str


@dataclass(frozen=True, slots=True)
class _Store:
    """A file with predictions from place `start` on, and what their images' files contained."""

    path: Path
    start: int
    contents: list[bytes | None]

    def places(self, total: int) -> range:
        return range(self.start, min(self.start + len(self.contents), total))


@dataclass(frozen=True, slots=True)
class Kept:
    """Predictions that are still true: places `start` to `stop` of the source are the file's rows from `row` on."""

    path: Path
    row: int
    start: int
    stop: int


class Parts:
    """One output directory's parts; `open_parts` makes it.

    Attributes:
        home: the directory that the parts' files lie in.
        kept: what is done, in order, without overlap; after `take_up`.
        differences: names of what the earlier run's predictions depended on that is another now; it is all done anew then.
        complete: whether an earlier run had come to its end.
    """

    def __init__(self, directory: Path, journal: JournalFile, subject: Subject, finished: Path) -> None:
        self.home, self._journal, self._subject, self._finished = directory / DIRECTORY, journal, subject, finished
        self.kept: list[Kept] = []
        before, self._lines = _read(journal)
        self.differences = before.differences(subject) if before else []
        last = self._lines[-1] if self._lines else None
        self.complete = isinstance(last, Finished) and finished.is_file() and files.digest(finished) == last.finished
        if before is None:
            self.start_anew()

    def start_anew(self) -> None:
        """Forget what earlier runs did."""
        self._remove_files()
        self._journal.clear()
        self._journal.append(self._subject.model_dump_json())
        self._lines, self.kept, self.differences, self.complete = [], [], [], False

    @property
    def spent(self) -> tuple[int, float]:
        """Images and seconds of all parts since predictions were last put in their place."""
        lines = list(self._lines)
        if not self.complete and lines and isinstance(lines[-1], Finished):
            lines.pop()  # killed between listing them and moving them
        parts: list[Part] = []
        for line in lines:
            parts = [*parts, line] if isinstance(line, Part) else []
        return sum(part.images for part in parts), sum(part.seconds for part in parts)

    def take_up(self, source: Source, batch: int) -> None:
        """Look which predictions of earlier runs are still true for these images. Their files are read for it."""
        stores, total = self._stores(), len(source)
        covered = sorted({place for store in stores for place in store.places(total)})
        now = dict(zip(covered, _contents(source, covered), strict=True))
        true: dict[int, tuple[Path, int]] = {}  # a batch's first place: the file and its row
        known = set[int]()  # places whose files still have a content that was classified
        for store in stores:
            places = store.places(total)
            same = {place for place in places if now[place] == store.contents[place - store.start]}
            known |= same
            for first in range(places.start + -places.start % batch, places.stop, batch):
                whole = range(first, min(first + batch, total))
                if whole.stop <= places.stop and same.issuperset(whole):
                    true[first] = store.path, first - store.start
        if changed := [source.samples[place].key for place in covered if place not in known]:
            log.info(
                "%s: %d images have changed since; their batches are done again (first: %s)",
                self.home.parent, len(changed), changed[0],
            )  # fmt: skip
        self.kept = _runs(true, batch, total)

    def _stores(self) -> list[_Store]:
        """The files that can be relied on; a later one stands for an earlier one."""
        found = [_Store(self._finished, 0, _recorded(self._finished))] if self._finished_is_listed() else []
        for line in self._lines:
            if isinstance(line, Part):
                path = self.home / line.file
                if os.path.isfile(path) and files.digest(path) == line.sha256:  # a name may be too long for a path
                    found.append(_Store(path, line.start, _recorded(path)))
        return found

    def _finished_is_listed(self) -> bool:
        listed = {line.finished for line in self._lines if isinstance(line, Finished)}
        return bool(listed) and self._finished.is_file() and files.digest(self._finished) in listed

    def holes(self, total: int) -> list[range]:
        """Places that are to be done, in order."""
        stops = [0, *(kept.stop for kept in self.kept)]
        starts = [*(kept.start for kept in self.kept), total]
        return [range(stop, start) for stop, start in zip(stops, starts, strict=True) if stop < start]

    def commit(self, start: int, predictions: list[Prediction], columns: pa.Schema, seconds: float) -> None:
        """Predictions of the images from place `start` on; on return they are done for good."""
        path = self.home / f"{start:012d}-{len(predictions)}.parquet"
        digest = write_part(path, predictions, columns)
        self.adopt(Part(start=start, images=len(predictions), file=path.name, sha256=digest, seconds=round(seconds, 6)))

    def adopt(self, part: Part) -> None:
        """List a part whose file is in its place, whoever wrote it; on return it is done for good."""
        self._add(part)
        kept = Kept(self.home / part.file, 0, part.start, part.start + part.images)
        insort(self.kept, kept, key=lambda kept: kept.start)

    def names_hold(self, source: Source) -> bool:
        """Whether the finished predictions are of these images, under these names and labels."""
        table = pq.read_table(self._finished, columns=["key", "label"])
        return table["key"].to_pylist() == [s.key for s in source] and table["label"].to_pylist() == [
            s.label for s in source
        ]

    def tables(self, source: Source) -> Iterator[pa.Table]:
        """All that is kept, in order, under the names and labels that the images have now."""
        for kept in self.kept:
            table = _read_part(kept.path).slice(kept.row, kept.stop - kept.start)
            samples = source.samples[kept.start : kept.stop]
            for name, values in (("key", [s.key for s in samples]), ("label", [s.label for s in samples])):
                field = table.schema.field(name)
                table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
            yield table

    @property
    def whole(self) -> Path:
        """Where all predictions are to be put together, before `finish` moves them to their place."""
        return self.home / "whole.parquet"

    def finish(self) -> None:
        """Put the whole predictions in their place. The parts are not needed any more."""
        # Listed before it is moved: at every instant the file in its place is one that the journal knows.
        self._add(Finished(finished=files.digest(self.whole)))
        with files.reporting(self._finished):
            os.replace(self.whole, self._finished)
            files.fsync(self._finished.parent)
        self._remove_files()
        self.complete = True

    def _remove_files(self) -> None:
        """All but the journal, with what a killed run, or an actor of one, left unlisted."""
        for path in self.home.iterdir():
            if path != self._journal.path:
                path.unlink(missing_ok=True)

    def _add(self, line: Part | Finished) -> None:
        self._journal.append(line.model_dump_json())
        self._lines.append(line)


def write_part(path: Path, predictions: list[Prediction], columns: pa.Schema) -> str:
    """Make predictions durable in a file that is whole or not there, and return its sha256."""
    with files.atomic_path(path) as temporary:
        pq.write_table(as_table(predictions, columns), temporary, compression="zstd")
    return files.digest(path)


@contextmanager
def open_parts(directory: Path, what: dict[str, str], finished: str) -> Iterator[Parts]:
    """Have an output directory's parts to oneself.

    Args:
        directory: the output; made where it is not there.
        what: all that predictions depend on besides the images, by name.
        finished: name of the predictions file in it.

    Raises:
        OutputError: another run is writing there, or the system refuses to write.
    """
    with open_journal(directory / JOURNAL) as journal:
        yield Parts(directory, journal, Subject(what=what), directory / finished)


def _read(journal: JournalFile) -> tuple[Subject | None, list[Part | Finished]]:
    """None where there is nothing, or nothing that can be understood: then all is done anew."""
    if not journal.lines:
        return None, []
    try:
        values = [json.loads(line) for line in journal.lines]
        subject = Subject.parse(values[0], str(journal.path))
        lines = [_line(value, f"{journal.path}:{number}") for number, value in enumerate(values[1:], start=2)]
    except (*JSON_ERRORS, FormatError) as error:
        log.warning("%s: is damaged (%s); what it lists is done again", journal.path, error)
        return None, []
    return subject, lines


def _line(value: object, where: str) -> Part | Finished:
    if isinstance(value, dict) and "finished" in value:
        return Finished.parse(value, where)
    part = Part.parse(value, where)
    if Path(part.file).name != part.file or part.start < 0 or part.images < 1:
        raise FormatError(f"{where}: {part.file!r} is no part")
    return part


def _read_part(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(
            f"{path}: was written and cannot be read any more ({str(error).splitlines()[0]}); run the same command again: only "
            "what was in it is done again"
        ) from error


def _recorded(path: Path) -> list[bytes | None]:
    """What the image file of each row contained; nothing where the file does not say."""
    try:
        return pq.read_table(path, columns=["sha256"])["sha256"].to_pylist()
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return []


def _contents(source: Source, places: list[int]) -> list[bytes | None]:
    """What the images' files contain now."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda place: source.samples[place].content(), places))


def _runs(true: dict[int, tuple[Path, int]], batch: int, total: int) -> list[Kept]:
    """Batches that follow each other in the same file, as one."""
    kept: list[Kept] = []
    for first in sorted(true):
        path, row = true[first]
        stop, last = min(first + batch, total), kept[-1] if kept else None
        if last and last.path == path and last.stop == first and last.row + first - last.start == row:
            kept[-1] = Kept(path, last.row, last.start, stop)
        else:
            kept.append(Kept(path, row, first, stop))
    return kept
