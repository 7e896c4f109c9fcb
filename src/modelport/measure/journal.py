"""The journal of a sweep: each trial is on disk before the next one begins, so that a killed sweep goes on where it was."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import files
from ..errors import FormatError, OutputError
from ..results import Configuration, SweepSubject, Trial

TRIALS_FILE = "trials.jsonl"
PREVIOUS_FILE = "trials.previous.jsonl"
log = logging.getLogger("modelport")


class Journal:
    """An open journal; `trials` has what was recorded, by configuration and repeat.

    Attributes:
        anew: whether nothing of an earlier sweep could be used.
    """

    def __init__(self, handle: int, path: Path, subject: SweepSubject) -> None:
        self._handle, self._path = handle, path
        self.trials: dict[tuple[Configuration, int], Trial] = {}
        self.anew = not self._resume(subject)
        if self.anew:
            os.ftruncate(handle, 0)
            self._append(subject.model_dump_json())

    def add(self, trial: Trial) -> None:
        """Record a trial; on return it is on disk."""
        self._append(trial.model_dump_json())
        self.trials[trial.configuration, trial.repeat] = trial

    def _append(self, line: str) -> None:
        with files.reporting(self._path):
            data = line.encode() + b"\n"
            while data:
                data = data[os.write(self._handle, data) :]
            os.fsync(self._handle)

    def _resume(self, subject: SweepSubject) -> bool:
        """Take up what is recorded; False where there is nothing, or nothing that goes with this subject."""
        text = self._path.read_bytes()
        whole = text.rfind(b"\n") + 1  # a line without its end was being written when the sweep was killed
        if not whole:
            return False
        os.ftruncate(self._handle, whole)
        head, *lines = text[:whole].splitlines()
        before = SweepSubject.parse(self._json(head, 1), f"{self._path}:1")
        if different := before.differences(subject):
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            found = "; ".join(different[:3])
            log.warning(
                "%s: starting anew, since this is not what it measured (%s%s); kept as %s",
                self._path, found, more, PREVIOUS_FILE,
            )  # fmt: skip
            files.write_bytes(self._path.with_name(PREVIOUS_FILE), text[:whole])
            return False
        for number, line in enumerate(lines, start=2):
            trial = Trial.parse(self._json(line, number), f"{self._path}:{number}")
            self.trials[trial.configuration, trial.repeat] = trial
        log.info("%s: %d trials are recorded already", self._path, len(self.trials))
        return True

    def _json(self, line: bytes, number: int) -> object:
        try:
            return json.loads(line)
        except ValueError as error:
            raise FormatError(
                f"{self._path}:{number}: is damaged (not JSON); pass --force to start anew, or remove the line"
            ) from error


@contextmanager
def journal(directory: Path, subject: SweepSubject) -> Iterator[Journal]:
    """Open a directory's journal, taking up what it holds or beginning anew.

    Raises:
        OutputError: the directory holds something else, or another sweep is writing into it.
        FormatError: the journal is damaged.
    """
    path = directory / TRIALS_FILE
    if not path.is_file():
        files.refuse_existing(directory, force=False)
    with files.reporting(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        _lock(handle, path)
        yield Journal(handle, path, subject)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    """One sweep at a time; the system lifts the lock when the process ends, however it ends."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OutputError(f"{path}: another sweep is writing here; wait for it, or choose another output") from error
