"""What a job has done already: a stage whose inputs and outputs are unchanged is not done again."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from . import __version__, files
from .errors import FormatError, OutputError
from .journal import locked
from .schema import Record

STATE_FILE = "stages.json"
log = logging.getLogger("modelport")


class _Entry(Record):
    """One finished stage: digest of its inputs, digests of its output files by path relative to the job's directory."""

    inputs: str
    outputs: dict[str, str]


class _State(Record):
    """`stages.json`."""

    format: Literal["modelport.stages"] = "modelport.stages"
    stages: dict[str, _Entry]


class Stages:
    """The stages of one job in its output directory; `open_stages` makes it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._done: dict[str, _Entry] = {}
        state = directory / STATE_FILE
        if state.is_file():
            try:
                self._done = dict(_State.read(state).stages)
            except FormatError as error:
                raise OutputError(f"{directory}: its {STATE_FILE} is damaged; pass --force to start anew") from error
        else:
            self._save()

    def run(
        self,
        name: str,
        inputs: dict[str, Any],
        outputs: list[Path],
        work: Callable[[], object],
        home: Path | None = None,
    ) -> bool:
        """Do a stage unless it is done.

        Args:
            name: the stage's name.
            inputs: everything that its result depends on, as plain values.
            outputs: the files it makes, whose content is checked before it is passed over.
            work: does it.
            home: a directory inside the job's that belongs to the stage alone; what an earlier run left of it is removed. None
                where the work goes on with it.

        Returns:
            Whether it was done now.
        """
        text = json.dumps({"modelport": __version__, **inputs}, sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()
        before = self._done.get(name)
        if before is not None and before.inputs == key and self._intact(before):
            log.info("%s: unchanged, kept", name)
            return False
        self._done.pop(name, None)
        start = perf_counter()
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)
        work()
        digests = {str(path.relative_to(self._directory)): files.digest(path) for path in outputs}
        self._done[name] = _Entry(inputs=key, outputs=digests)
        self._save()
        log.info("%s: done in %.1f s", name, perf_counter() - start)
        return True

    def _intact(self, entry: _Entry) -> bool:
        return all(
            (path := self._directory / name).is_file() and files.digest(path) == digest
            for name, digest in entry.outputs.items()
        )

    def _save(self) -> None:
        _State(stages=self._done).write(self._directory / STATE_FILE)


@contextmanager
def open_stages(directory: Path, *, force: bool = False) -> Iterator[Stages]:
    """Have a job's directory to oneself, and take up an earlier run of a job in it, or begin one.

    Args:
        directory: made where it is not there.
        force: begin anew.

    Raises:
        OutputError: the directory holds something else, or another run is writing there.
    """
    if not (directory / STATE_FILE).is_file():
        files.refuse_existing(directory, force=force)
    with locked(directory):
        if force:
            files.empty_directory(directory, marker=STATE_FILE)
        for path in directory.rglob(".*.tmp"):  # what a run that was killed had not finished
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        yield Stages(directory)
