"""A run's work on Ray: Ray Data hands shards to actors, restarts those that die, and gives back what became of each shard.

The output is ours: one part for a shard, whole or not there, and listed in the driver's journal once it is back. So what Ray
loses or does twice, the predictions do not. Where a node is lost, what is left is planned anew for the nodes that remain.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue
from secrets import token_hex
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .. import errors, files
from ..data.parts import Part, Parts
from ..data.source import Source
from ..engines import open_model
from ..engines.session import Session, SessionOptions
from ..errors import DataError, InferenceError
from ..exclusive import Watch
from ..executor import Executor
from ..offline import MANIFEST, OfflineModel
from ..progress import Progress
from ..stopping import draining
from ..work import Figures, Work
from .actor import OUTCOME, PART, ShardRunner
from .connection import Cluster, gist
from .figures import Tally
from .shards import Assignment, Outcome, cut

_END_S = 30.0  # for Ray Data to end its actors
_LOOK_S = 1.0  # how often the nodes are counted
_RETRIES = 2  # where nothing was done in between: it may be an image's fault that workers die
_RETRIES_OF_RAY = 1  # of a shard on another worker, before the plan is given up and made anew
if TYPE_CHECKING:
    from ray.data import Dataset

log = logging.getLogger("modelport")


class _LostError(Exception):
    """A node or a worker is gone, and Ray's plan with it; what is left has to be planned anew."""


class OnRay(Executor):
    """Runs shards in the actors of a connected cluster."""

    def __init__(self, cluster: Cluster, model: OfflineModel, session: SessionOptions) -> None:
        """`session`: how every actor opens the model."""
        self._cluster, self._model, self._session = cluster, model, session
        self.batch_size = model.manifest.batch_size
        self._stopping = False

    def infer(self, work: Work, parts: Parts, columns: pa.Schema, progress: Progress) -> Figures:
        total, tally, lost = len(work.source), Tally(), 0
        watched = Watch() if self._cluster.local else None
        begin = perf_counter()  # a look at the machine is no part of the run
        with draining(self._stop), self._assigned(work, parts) as assignment:
            while (holes := parts.holes(total)) and not self._stopping:
                actors = self._cluster.require_room(1)
                most = self._cluster.options.shard
                cuts = cut(work.source, holes, self.batch_size, actors=actors, most=most)
                shards = [shard.pack() for shard in cuts]
                done, since = total - sum(map(len, holes)), perf_counter()
                try:
                    with closing(self._outcomes(assignment, shards, actors)) as outcomes:
                        for outcome, data in outcomes:
                            _require_sight(outcome, work.source)
                            since, lost = _commit(outcome, data, assignment, parts, since), 0
                            tally.add(outcome)
                            done += outcome.images
                            progress(f"infer {work.target.name}", done, total)
                            if self._stopping:
                                break
                except _LostError as error:
                    lost = _count_lost(lost, error)
        wall = perf_counter() - begin
        if watched is not None:
            watched.finish()
        return tally.figures(parts, wall, watched.hygiene if watched else None)

    @contextmanager
    def _assigned(self, work: Work, parts: Parts) -> Iterator[Assignment]:
        """What the actors are told, and meanwhile the file by which they know our directory."""
        assignment = Assignment(
            model=self._model.path.resolve(),
            digest=files.digest(self._model.path / MANIFEST),
            session=self._session,
            pipeline=replace(work.options.pipeline, decoders=self._cluster.options.decoders or self._cluster.cores),
            preprocessing=work.options.preprocessing,
            parts=parts.home.resolve(),
            token=token_hex(4),
        )
        files.write_text(assignment.proof, "An actor that sees this file writes its parts beside it.\n")
        try:
            yield assignment
        finally:
            assignment.proof.unlink(missing_ok=True)

    def session(self) -> AbstractContextManager[Session]:
        return open_model(self._model, SessionOptions(isolation=self._session.isolation))

    def _stop(self) -> None:
        self._stopping = True

    def _outcomes(
        self, assignment: Assignment, shards: list[bytes], actors: int
    ) -> Generator[tuple[Outcome, bytes | None], None, None]:
        """What became of each shard, as they are done, while all nodes live.

        Ray's own iterator blocks for as long as a shard is on its way, which is for ever where its actor's node is gone and no
        other has room. So it is read in a thread of its own, and the nodes are counted here meanwhile.
        """
        at_first = {node.id for node in self._cluster.nodes()}
        found: SimpleQueue[pa.Table | BaseException | None] = SimpleQueue()
        planned = self._plan(assignment, shards, actors)
        with _reading(planned, found):
            while True:
                try:
                    item = found.get(timeout=_LOOK_S)
                except Empty:
                    self._require_nodes(at_first)
                    if self._stopping:
                        return
                    continue
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise _LostError(gist(item)) from item
                for told, part in zip(item[OUTCOME].to_pylist(), item[PART].to_pylist(), strict=True):
                    yield _answer(told), part

    def _require_nodes(self, wanted: set[str]) -> None:
        if not wanted <= {node.id for node in self._cluster.nodes()}:
            raise _LostError("a node is gone")

    def _plan(self, assignment: Assignment, shards: list[bytes], actors: int) -> Dataset:
        """Ray Data's plan: one shard, one block, one call."""
        from ray import data

        context = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_options.preserve_order = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it would print pages; we tell their gist
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")  # nothing else bounds the retries
        options = self._cluster.options
        planned = data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
        return planned.map_batches(
            ShardRunner,
            batch_size=1,  # a block has one row; None is refused for actors with GPUs
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=min(actors, len(shards)), max_tasks_in_flight_per_actor=2),
            fn_constructor_args=(assignment,),
            num_cpus=self._cluster.cores,
            num_gpus=options.gpus or None,
            max_task_retries=_RETRIES_OF_RAY,
        )


def _answer(told: str) -> Outcome:
    """What an actor says, or the error that it met there."""
    outcome = Outcome.parse(json.loads(told), "an actor's answer")
    if outcome.error is not None:
        raise getattr(errors, outcome.error)(outcome.message)
    return outcome


def _count_lost(before: int, error: _LostError) -> int:
    """One more loss without a commit in between; InferenceError where it is one too many."""
    if before == _RETRIES:
        raise InferenceError(
            f"the Ray cluster gave up {before + 1} times with nothing done in between ({error}); what was done is kept: the same "
            "command goes on there"
        ) from error
    log.warning("the Ray cluster: %s; what was not finished there is done again", error)
    return before + 1


def _commit(outcome: Outcome, data: bytes | None, assignment: Assignment, parts: Parts, since: float) -> float:
    """List a part that is back, with the time since the one before, and return the time that it is now."""
    path = assignment.part(outcome.start, outcome.images)
    if data is not None:  # the actor does not see our directory
        files.write_bytes(path, data)
    now = perf_counter()
    seconds = round(now - since, 6)
    parts.adopt(
        Part(start=outcome.start, images=outcome.images, file=path.name, sha256=outcome.sha256, seconds=seconds)
    )
    return now


def _require_sight(outcome: Outcome, source: Source) -> None:
    """Raise InferenceError where an actor could read nothing and we can: its node does not see the images."""
    unread = sum(stage.failures for stage in outcome.stages if stage.name == "read")
    if unread < outcome.images:
        return
    sample = source.samples[outcome.start]
    try:
        sample.read()
    except DataError:
        return
    raise InferenceError(
        f"{outcome.actor} could read none of {unread} images, such as {sample.origin}, which can be read here: every node has to "
        "see the images at the same place"
    )


@contextmanager
def _reading(planned: Dataset, found: SimpleQueue[Any]) -> Iterator[None]:
    """Put what the plan yields into a queue meanwhile, then None, or the error that ended it. At the end all of it is ended."""

    def pump() -> None:
        try:
            for table in planned.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                found.put(table)
            found.put(None)
        except BaseException as error:  # handed to the driver's thread, whatever it is
            found.put(error)

    thread = Thread(target=pump, daemon=True, name="modelport-ray")
    thread.start()
    try:
        yield
    finally:
        # The thread waits inside Ray's iterator, which has no other end than its executor's.
        if thread.is_alive() and (executor := planned._current_executor) is not None:
            executor.shutdown(force=True)
        thread.join(_END_S)
