"""A real-data run into an output directory that can be killed at any instant and goes on when it is run again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa

from . import files
from .accuracy import INFER_FILE, PREDICTIONS_FILE
from .data.parts import JOURNAL, Parts, open_parts
from .data.predictions import schema, writing
from .engines.session import Session
from .errors import FormatError, OutputError, StoppedError
from .executor import Executor, InThisProcess
from .fast_check import FastSample
from .host import environment
from .progress import Progress, silent
from .results import BadImage, InferResult
from .work import Figures, Work, describe_run

Existing = Literal["refuse", "replace", "update"]
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
    return classify_by(InThisProcess(session), work, output, existing=existing, progress=progress)


def classify_by(
    executor: Executor, work: Work, output: Path | str, *, existing: Existing = "refuse", progress: Progress = silent
) -> InferResult:
    """As `classify`, by whoever does the work."""
    output = Path(output)
    refuse_foreign(output, existing)
    with open_parts(output, _what(work), PREDICTIONS_FILE) as parts:
        return _Run(executor, work, output, parts, progress).run(existing)


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
        **({"decoding": work.options.decoding} if work.options.decoding != "cpu" else {}),  # earlier runs know no other
    }


class _Run:
    """One attempt at the work; a method for each step."""

    def __init__(self, executor: Executor, work: Work, output: Path, parts: Parts, progress: Progress) -> None:
        self._executor, self._work, self._output, self._parts, self._progress = executor, work, output, parts, progress
        self._total = len(work.source)
        self._columns = schema(work.spec.num_classes, all_scores=work.options.pipeline.keep_scores)

    def run(self, existing: Existing) -> InferResult:
        before = self._read_before()
        self._settle(existing, before)
        self._parts.take_up(self._work.source, self._executor.batch_size)
        left = sum(map(len, self._parts.holes(self._total)))
        if before is not None and not left and self._parts.complete and self._parts.names_hold(self._work.source):
            log.info("%s: is finished, and nothing has changed", self._output)
            return before
        if left < self._total:
            log.info("%s: %d of %d images are done already", self._output, self._total - left, self._total)
        if left or before is None:
            figures = self._infer()
        else:  # only names or labels have changed
            figures = Figures(
                e2e=before.e2e,
                interface=before.interface,
                stages=before.stages,
                by_device=before.by_device,
                hygiene=before.hygiene,
                restarts=before.restarts,
                cluster=before.cluster,
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

    def _infer(self) -> Figures:
        """Do what is left, in parts."""
        figures = self._executor.infer(self._work, self._parts, self._columns, self._progress)
        if holes := self._parts.holes(self._total):
            done = self._total - sum(map(len, holes))
            raise StoppedError(
                f"stopped; {done:,} of {self._total:,} images are done and kept in {self._output}: the same command goes on there"
            )
        return figures

    def _finish(self, figures: Figures, kept: int) -> InferResult:
        """Put the parts together, measure what fast preprocessing changed, and write the result."""
        work, bad, row = self._work, list[BadImage](), 0
        inexact = work.options.inexact
        sample = FastSample(work.source, inexact) if inexact else None
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
        checked = None
        if sample is not None:
            with self._executor.session() as session:
                checked = sample.compare(session, work.options.decoder(work.spec.preprocess))
        result = describe_run(work, figures, bad, checked, kept=kept)
        (self._output / INFER_FILE).unlink(missing_ok=True)  # it must never stand beside another run's predictions
        self._parts.finish()
        result.write(self._output / INFER_FILE)
        return result


def _decisions(table: pa.Table) -> Iterator[tuple[str | None, int]]:
    """Of each row its error, and its first class (-1 where there is none)."""
    for error, top in zip(table["error"].to_pylist(), table["top"].to_pylist(), strict=True):
        yield error, top[0] if top else -1


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
