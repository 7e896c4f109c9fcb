"""A real-data run into an output directory that can be killed at any instant and goes on when it is run again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Literal

import pyarrow as pa

from . import files
from .accuracy import INFER_FILE, PREDICTIONS_FILE
from .data.fast import make_decoder
from .data.parts import JOURNAL, Parts, open_parts
from .data.predictions import Prediction, schema, writing
from .engines.base import Session
from .errors import FormatError, OutputError, StoppedError
from .exclusive import watch
from .fast_check import FastSample
from .host import environment
from .pipeline import Pipeline
from .progress import Progress, silent
from .results import BadImage, EndToEnd, InferResult
from .stopping import draining
from .work import Figures, Work, describe_run

Existing = Literal["refuse", "replace", "update"]
_COMMIT_S, _COMMIT_IMAGES = 5.0, 4096
log = logging.getLogger("modelport")


def classify(
    session: Session, work: Work, output: Path | str, *, existing: Existing = "refuse", progress: Progress = silent
) -> InferResult:
    """Run planned work through an open session into `output`: `predictions.parquet` and `infer.json`.

    Predictions are made durable every few seconds. Where an earlier run of the same work was killed, only what it had not
    done is done, and the predictions file is the same to the byte. Where image files have changed since, their batches are
    done again.

    Args:
        session: what runs it.
        work: what is run.
        output: directory to make, or of an earlier run.
        existing: what to do where `output` holds a finished run of another model or with other flags: refuse, or replace it
            (`replace` does all anew in any case).
        progress: called as images are done.

    Raises:
        OutputError: `output` holds something else, or another run is writing there, or the system refuses to write.
        StoppedError: a signal came; what was done is kept.
        DataError: a bad image where the policy is to fail.
        InferenceError: the engine failed; what was done is kept.
    """
    output = Path(output)
    refuse_foreign(output, existing)
    with open_parts(output, _what(work), PREDICTIONS_FILE) as parts:
        return _Run(session, work, output, parts, progress).run(existing)


def refuse_foreign(output: Path, existing: Existing) -> None:
    """Raise OutputError where `output` is nothing that an earlier run left and that may be gone on with."""
    if (output / JOURNAL).is_file():
        return
    if existing == "refuse":
        files.refuse_existing(output, force=False)
    else:
        files.refuse_foreign(output, INFER_FILE)


def _what(work: Work) -> dict[str, str]:
    """All that predictions depend on besides the images, by the name under which a difference is told."""
    here, target = environment(), work.target
    model = work.identity or json.dumps([target.jsonable(), work.spec.jsonable()], sort_keys=True)
    return {
        "model": hashlib.sha256(model.encode()).hexdigest(),
        "preprocessing": work.options.preprocessing,
        "scores": "all" if work.options.pipeline.keep_scores else "highest five",
        "streams": str(target.streams),
        "threads": str(target.threads),
        "devices": ",".join(map(str, target.devices)),
        "modelport": here.modelport,
        "processor": here.cpu,
        **here.packages,
    }


class _Run:
    """One attempt at the work; a method for each step."""

    def __init__(self, session: Session, work: Work, output: Path, parts: Parts, progress: Progress) -> None:
        self._session, self._work, self._output, self._parts, self._progress = session, work, output, parts, progress
        self._total = len(work.source)
        self._columns = schema(work.spec.num_classes, all_scores=work.options.pipeline.keep_scores)

    def run(self, existing: Existing) -> InferResult:
        before = self._read_before()
        self._settle(existing, before)
        self._parts.take_up(self._work.source, self._session.batch_size)
        left = sum(map(len, self._parts.holes(self._total)))
        if before is not None and not left and self._parts.complete and self._parts.names_hold(self._work.source):
            log.info("%s: is finished, and nothing has changed", self._output)
            return before
        if left < self._total:
            log.info("%s: %d of %d images are done already", self._output, self._total - left, self._total)
        if left or before is None:
            figures = self._infer(left)
        else:  # only names or labels have changed
            figures = Figures(
                e2e=before.e2e,
                interface=before.interface,
                stages=before.stages,
                hygiene=before.hygiene,
                restarts=before.restarts,
            )
        return self._finish(figures, self._total - left)

    def _read_before(self) -> InferResult | None:
        """What the finished run that is there says of itself, if there is one."""
        path = self._output / INFER_FILE
        try:
            return InferResult.read(path) if self._parts.complete and path.is_file() else None
        except FormatError:
            return None  # it is made again from the predictions

    def _settle(self, existing: Existing, before: InferResult | None) -> None:
        """Decide what becomes of an earlier run that was another."""
        different = list(self._parts.differences)
        if before is not None and before.limit != self._work.options.limit:
            different.append("limit")
        if existing == "refuse" and before is not None and different:
            raise OutputError(
                f"{self._output}: holds a finished run that differs in {_listed(different)}: choose another output, or pass "
                "--force to replace it"
            )
        if existing == "replace":
            self._parts.start_anew()
        elif self._parts.differences:
            log.warning("%s: starting anew, since it differs in %s", self._output, _listed(self._parts.differences))
            self._parts.start_anew()

    def _infer(self, left: int) -> Figures:
        """Do what is left, in parts."""
        work, places = self._work, list(chain(*self._parts.holes(self._total)))
        options = replace(work.options.pipeline, contents=True)
        pipeline = Pipeline(self._session, make_decoder(work.spec.preprocess, work.options.preprocessing), options)
        parts = _Committer(self._parts, self._columns, iter(places), self._session.batch_size)
        with watch() as watched, draining(pipeline.stop), parts.committing():
            for done, prediction in enumerate(pipeline.run(work.source.at(places)), start=1):
                parts.add(prediction)
                self._progress(f"infer {work.target.name}", self._total - left + done, self._total)
        if self._parts.holes(self._total):
            done = self._total - sum(map(len, self._parts.holes(self._total)))
            raise StoppedError(
                f"stopped; {done:,} of {self._total:,} images are done and kept in {self._output}: the same command goes on there"
            )
        images, seconds = self._parts.spent
        return Figures(
            e2e=EndToEnd(throughput=images / seconds if seconds else 0.0, wall_s=seconds),
            interface=pipeline.interface,
            stages=pipeline.stages,
            hygiene=watched.hygiene,
            restarts=self._session.restarts,
        )

    def _finish(self, figures: Figures, kept: int) -> InferResult:
        """Put the parts together, measure what fast preprocessing changed, and write the result."""
        work, bad, row = self._work, list[BadImage](), 0
        sample = FastSample(work.source) if work.options.preprocessing == "fast" else None
        with writing(self._parts.whole, self._columns) as writer:
            for table in self._parts.tables(work.source):
                for error, top in _decisions(table):
                    image = work.source.samples[row]
                    if error is not None:
                        bad.append(BadImage(key=image.key, reason=error))
                    elif sample is not None:
                        sample.take(row, image, top)
                    row += 1
                writer.write(table)
        checked = sample.compare(self._session, work.spec.preprocess) if sample is not None else None
        result = describe_run(work, figures, bad, checked, kept=kept)
        (self._output / INFER_FILE).unlink(missing_ok=True)  # it must never stand beside another run's predictions
        self._parts.finish()
        result.write(self._output / INFER_FILE)
        return result


class _Committer:
    """Collects predictions and hands them over to the parts, a few seconds' worth of whole batches at a time."""

    def __init__(self, parts: Parts, columns: pa.Schema, places: Iterator[int], batch: int) -> None:
        self._parts, self._columns, self._places, self._batch = parts, columns, places, batch
        self._rows: list[Prediction] = []
        self._start = 0
        self._since = perf_counter()

    def add(self, prediction: Prediction) -> None:
        """Take the prediction for the next place."""
        place = next(self._places)
        if place != self._start + len(self._rows):
            self._commit(len(self._rows))
        if not self._rows:
            self._start = place
        self._rows.append(prediction)
        late = perf_counter() - self._since > _COMMIT_S or len(self._rows) >= _COMMIT_IMAGES
        if late and len(self._rows) % self._batch == 0:
            self._commit(len(self._rows))

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Commit what is left at the end; after an error, the whole batches of it."""
        try:
            yield
        except BaseException:
            with suppress(OutputError):  # the first error is the one to tell
                self._commit(len(self._rows) - len(self._rows) % self._batch)
            raise
        self._commit(len(self._rows))

    def _commit(self, count: int) -> None:
        if not count:
            return
        now = perf_counter()
        self._parts.commit(self._start, self._rows[:count], self._columns, now - self._since)
        self._rows, self._since = [], now


def _decisions(table: pa.Table) -> Iterator[tuple[str | None, int]]:
    """Of each row its error, and its first class (-1 where there is none)."""
    for error, top in zip(table["error"].to_pylist(), table["top"].to_pylist(), strict=True):
        yield error, top[0] if top else -1


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
