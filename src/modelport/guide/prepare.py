"""The guide's preprocessing step: each image as raw float32, CHW, in a `.bin` of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

import numpy as np

from .. import files
from ..data.decode import Decoder
from ..data.source import Sample, Source, open_source
from ..errors import DataError, StoppedError
from ..journal import JournalFile, open_journal
from ..progress import Progress, silent
from ..schema import JSON_ERRORS
from ..spec import Preprocess
from ..stopping import draining

MARKER = ".modelport-prepared"  # in directories that were written here, which may therefore be replaced; a journal
_GROUP = 128  # images that are made durable together
log = logging.getLogger("modelport")


def write_prepared(images: Path | str, output: Path | str, preprocess: Preprocess, progress: Progress = silent) -> int:
    """Prepare every image of a folder into `output/NAME.bin`, little-endian float32, channels x height x width.

    The files are collected in a hidden directory beside `output`, which becomes `output` when all are there. Killed or
    stopped, the same call goes on with what that directory holds, as long as an image's content and the preprocessing are the same.

    Returns:
        The number of images.

    Raises:
        DataError: no images, two of one name, or unreadable ones (counted, the first named); nothing is left behind then.
        OutputError: `output` holds something that was not written here, or another run is writing it.
        StoppedError: a signal came.
    """
    output, source = Path(output), open_source(images)
    _refuse_shared_stems(source.samples)
    files.refuse_foreign(output, MARKER)
    home = output.with_name(f".{output.name}.preparing")
    with open_journal(home / MARKER) as journal:
        problems = _Preparing(home, journal, preprocess, source).run(progress)
        if problems:
            shutil.rmtree(home)
            raise DataError(
                f"{len(problems)} of {len(source)} images cannot be prepared, none was written; the first: {problems[0]}"
            )
        with files.reporting(output):
            files.replace_directory(home, output, marker=MARKER)
    return len(source)


class _Preparing:
    """Fills a directory with prepared images and keeps a journal of those that are durable."""

    def __init__(self, home: Path, journal: JournalFile, preprocess: Preprocess, source: Source) -> None:
        self._home, self._journal, self._source, self._stop = home, journal, source, Event()
        self._writing = Lock()
        self._decoder, self._shape = Decoder(preprocess), preprocess.input_size
        head = json.dumps({"preprocess": preprocess.jsonable()})
        lines = [line.decode(errors="replace") for line in journal.lines]
        self._done = _listed(lines[1:]) if lines[:1] == [head] else {}
        if not self._done:
            journal.clear()
            journal.append(head)
        else:
            log.info("%s: %d images are prepared already", home, len(self._done))

    def run(self, progress: Progress) -> list[str]:
        """Prepare what is not done yet; returns what is wrong with images that cannot be."""
        samples, problems = self._source.samples, list[str]()
        for stray in {entry.name for entry in self._home.iterdir()} - {MARKER} - {_bin(sample) for sample in samples}:
            (self._home / stray).unlink()
        with draining(self._stop.set), ThreadPoolExecutor() as pool:
            for start in range(0, len(samples), _GROUP):
                if self._stop.is_set():
                    raise StoppedError(
                        f"stopped; {start:,} of {len(samples):,} images are prepared and kept: the same command goes on there"
                    )
                group = samples[start : start + _GROUP]
                made = list(pool.map(self._prepare, group))
                problems += [why for why, _ in made if why]
                self._commit({_bin(sample): digest for sample, (_, digest) in zip(group, made, strict=True) if digest})
                progress("preprocess", start + len(group), len(samples))
        return problems

    def _prepare(self, sample: Sample) -> tuple[str | None, str | None]:
        """What is wrong with an image, or the digest of its content where it was prepared now."""
        path = self._home / _bin(sample)
        now = sample.content()
        size = 4 * int(np.prod(self._shape))
        if now and self._done.get(path.name) == now.hex() and path.is_file() and path.stat().st_size == size:
            return None, None
        array = np.empty(self._shape, np.float32)
        try:
            data = sample.read()
            self._decoder(sample, data, array)
        except DataError as error:
            return f"{sample.origin}: {error}", None
        if path.name in self._done:
            self._forget(path.name)
        with files.reporting(path):
            path.write_bytes(array.astype("<f4", copy=False).tobytes())
            files.fsync(path)
        return None, hashlib.sha256(data).hexdigest()

    def _forget(self, name: str) -> None:
        """Before a file is written over: it must not be taken for the old one if that is cut short."""
        with self._writing:
            self._journal.append(json.dumps({name: None}))

    def _commit(self, made: dict[str, str]) -> None:
        if made:
            files.fsync(self._home)
            self._journal.append(json.dumps(made))


def _listed(lines: list[str]) -> dict[str, str | None]:
    """Digest of the image that each prepared file was made from; nothing of a line that is damaged."""
    done: dict[str, str | None] = {}
    for line in lines:
        try:
            done |= json.loads(line)
        except (*JSON_ERRORS, TypeError):
            log.warning("%s: a line is damaged; its images are prepared again", MARKER)
    return done


def stem(key: str) -> str:
    """An image's file name up to its extension: the name of its `.bin` and of its dump."""
    return Path(key).stem


def _bin(sample: Sample) -> str:
    return f"{stem(sample.key)}.bin"


def _refuse_shared_stems(samples: tuple[Sample, ...]) -> None:
    seen: dict[str, str] = {}
    for sample in samples:
        if (other := seen.setdefault(stem(sample.key), sample.key)) != sample.key:
            raise DataError(
                f"{other!r} and {sample.key!r} would both become {stem(sample.key)}.bin; the guide's files have no folders"
            )
