"""The journal of a sweep: each trial is on disk before the next one begins, so that a killed sweep goes on where it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import files
from ..errors import FormatError
from ..journal import JournalFile, open_journal
from ..results import Configuration, SweepSubject, Trial
from ..schema import JSON_ERRORS

TRIALS_FILE = "trials.jsonl"
PREVIOUS_FILE = "trials.previous.jsonl"
log = logging.getLogger("modelport")


class Journal:
    """An open journal; `trials` has what was recorded, by configuration and repeat.

    Attributes:
        anew: whether nothing of an earlier sweep could be used.
    """

    def __init__(self, file: JournalFile, subject: SweepSubject) -> None:
        self._file, self._path = file, file.path
        self.trials: dict[tuple[Configuration, int], Trial] = {}
        self.anew = not self._resume(subject)
        if self.anew:
            file.clear()
            file.append(subject.model_dump_json())

    def add(self, trial: Trial) -> None:
        """Record a trial; on return it is on disk."""
        self._file.append(trial.model_dump_json())
        self.trials[trial.configuration, trial.repeat] = trial

    def _resume(self, subject: SweepSubject) -> bool:
        """Take up what is recorded; False where there is nothing, or nothing that goes with this subject."""
        if not self._file.lines:
            return False
        head, *lines = self._file.lines
        before = SweepSubject.parse(self._json(head, 1), f"{self._path}:1")
        if different := before.differences(subject):
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            found = "; ".join(different[:3])
            log.warning(
                "%s: starting anew, since this is not what it measured (%s%s); kept as %s",
                self._path, found, more, PREVIOUS_FILE,
            )  # fmt: skip
            files.write_bytes(self._path.with_name(PREVIOUS_FILE), self._path.read_bytes())
            return False
        for number, line in enumerate(lines, start=2):
            trial = Trial.parse(self._json(line, number), f"{self._path}:{number}")
            self.trials[trial.configuration, trial.repeat] = trial
        log.info("%s: %d trials are recorded already", self._path, len(self.trials))
        return True

    def _json(self, line: bytes, number: int) -> object:
        try:
            return json.loads(line)
        except JSON_ERRORS as error:
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
    with open_journal(path) as file:
        yield Journal(file, subject)
