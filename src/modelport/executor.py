"""Who does a run's work and makes its predictions durable on the way: this process, or (in `cluster`) others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import chain
from time import perf_counter

import pyarrow as pa

from .data.parts import Parts
from .data.predictions import Prediction
from .engines.session import Session
from .errors import OutputError
from .exclusive import watch
from .pipeline import Pipeline
from .progress import Progress
from .results import EndToEnd
from .stopping import draining
from .work import Figures, Work

_COMMIT_S, _COMMIT_IMAGES = 5.0, 4096


class Executor(ABC):
    """Does what is left of a run.

    Attributes:
        batch_size: images that go through the model together; parts hold whole batches.
    """

    batch_size: int

    @abstractmethod
    def infer(self, work: Work, parts: Parts, columns: pa.Schema, progress: Progress) -> Figures:
        """Fill the parts' holes. Told to stop by a signal, it returns with some left.

        Raises:
            ModelportError: what ended it; what was committed before is kept.
        """

    @abstractmethod
    def session(self) -> AbstractContextManager[Session]:
        """The model opened in this process, to check with what fast preprocessing changed."""


class InThisProcess(Executor):
    """Runs the pipeline here, through an open session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.batch_size = session.batch_size

    def infer(self, work: Work, parts: Parts, columns: pa.Schema, progress: Progress) -> Figures:
        total, holes = len(work.source), parts.holes(len(work.source))
        places = list(chain(*holes))
        options = replace(work.options.pipeline, contents=True)
        pipeline = Pipeline(self._session, work.options.decoder(work.spec.preprocess), options)
        committer = _Committer(parts, columns, iter(places), self.batch_size)
        with watch() as watched, draining(pipeline.stop), committer.committing():
            for done, prediction in enumerate(pipeline.run(work.source.at(places)), start=1):
                committer.add(prediction)
                progress(f"infer {work.target.name}", total - len(places) + done, total)
        return Figures(
            e2e=end_to_end(parts),
            interface=pipeline.interface,
            stages=pipeline.stages,
            by_device=pipeline.devices,
            hygiene=watched.hygiene,
            restarts=self._session.restarts,
        )

    def session(self) -> AbstractContextManager[Session]:
        return nullcontext(self._session)


def end_to_end(parts: Parts) -> EndToEnd:
    """Speed over all parts of a run, those of attempts before this one included."""
    images, seconds = parts.spent
    return EndToEnd(throughput=images / seconds if seconds else 0.0, wall_s=seconds)


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
