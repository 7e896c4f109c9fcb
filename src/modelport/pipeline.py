"""read → decode → batch → infer → post, overlapped: every stage has its workers, bounded queues lie between them.

An image's place is fixed when it is read: row `i mod B` of batch `i div B`. Decoders write straight into that row, so no
image is copied to be batched and none has to be put back in order. A fixed number of batch buffers travels round; a
buffer is free again once its results, in input order, have been taken. So memory is bounded whatever stage is slow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread
from time import perf_counter, process_time, thread_time

import numpy as np

from .channel import Channel, Closed
from .data.decode import Decoder
from .data.predictions import Prediction, top_classes
from .data.source import Sample, Source
from .engines.session import Session
from .errors import DataError, InferenceError
from .host import pinned
from .results import BadImage, DeviceStats, Interface, StageStats

_NOTHING = np.empty(0, dtype=np.int32)
_COUNT = "--on-bad-image count lists such images and goes on"


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineOptions:
    """How the work is spread.

    Attributes:
        readers: threads that read files.
        decoders: threads that decode and prepare.
        count_bad_images: list an image that cannot be read, or that the engine cannot run, and go on; off, it ends the run.
        keep_scores: keep all scores of an image, not only the highest five.
        contents: keep the sha256 of each file, so that a later run knows whether it is the same.
    """

    readers: int = 1
    decoders: int = 2
    count_bad_images: bool = True
    keep_scores: bool = False
    contents: bool = False


@dataclass(slots=True)
class _Batch:
    """One buffer on its way round."""

    array: np.ndarray
    number: int = 0
    samples: list[Sample] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    waiting: int = 0  # rows that are not decoded yet
    scores: np.ndarray | None = None


class _Clock:
    """Time during which at least one of several overlapping intervals is open."""

    def __init__(self) -> None:
        self.total = 0.0
        self._open, self._since, self._lock = 0, 0.0, Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._open == 0:
                self._since = perf_counter()
            self._open += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self.total += perf_counter() - self._since


class _Meter:
    """What one stage did, summed over its workers."""

    def __init__(self, name: str, workers: int, *, on_cores: bool = True) -> None:
        self.name, self.workers, self.on_cores, self._lock = name, workers, on_cores, Lock()
        self.items = self.images = self.failures = 0
        self.busy = self.blocked_get = self.blocked_put = self.cpu = 0.0
        self.finished = self.started = perf_counter()

    def add(self, **amounts: float) -> None:
        with self._lock:
            self.finished = perf_counter()
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)

    def add_cpu(self, seconds: float) -> None:
        with self._lock:
            self.cpu += seconds

    def stats(self, wall: float) -> StageStats:
        return StageStats(
            name=self.name,
            workers=self.workers,
            items=self.items,
            images=self.images,
            failures=self.failures,
            busy_s=self.busy,
            blocked_get_s=self.blocked_get,
            blocked_put_s=self.blocked_put,
            cpu_s=self.cpu,
            on_cores=self.on_cores,
            finished_s=self.finished - self.started,
            wall_s=wall,
        )


class _Device:
    """One device's session, and what went through it."""

    def __init__(self, session: Session) -> None:
        self.session, self.clock, self.images, self._lock = session, _Clock(), 0, Lock()

    def add(self, images: int) -> None:
        with self._lock:
            self.images += images


class Pipeline:
    """Runs one source through one session, once. Iterate over `run`, then read `stages`, `devices`, `interface`, `bad_images`, `wall_s`."""

    def __init__(self, session: Session, decoder: Decoder, options: PipelineOptions) -> None:
        self._session, self._decoder, self._options = session, decoder, options
        self._size = session.batch_size
        flight = 2 * session.slots + 2 + options.decoders // self._size
        self._free: Channel[_Batch] = Channel(flight)
        self._read: Channel[tuple[_Batch, int, bytes | DataError]] = Channel(
            2 * self._size + options.decoders, options.readers
        )
        self._full: Channel[_Batch] = Channel(flight, options.decoders)
        self._scored: Channel[_Batch] = Channel(flight, session.slots)
        for _ in range(flight):
            self._free.put(_Batch(np.zeros(session.input.shape, dtype=session.input.dtype)))
        self._meters = {
            "read": _Meter("read", options.readers, on_cores=False),
            "decode": _Meter("decode", options.decoders, on_cores=decoder.on_cores),
            "batch": _Meter("batch", options.decoders),  # whoever decodes a batch's last image completes it
            "infer": _Meter("infer", session.slots, on_cores=session.on_cores),
            "post": _Meter("post", 1),
        }
        self._clock, self._planning, self._counting = _Clock(), Lock(), Lock()
        self._devices = {name: _Device(part) for name, part in session.by_device.items()}
        self._workplaces: SimpleQueue[_Device] = SimpleQueue()  # one for each thread that infers
        for device in self._devices.values():
            for _ in range(device.session.slots):
                self._workplaces.put(device)
        self._error: BaseException | None = None
        self._stopping = False
        self.bad_images: list[BadImage] = []
        self.wall_s = 0.0

    @property
    def stages(self) -> tuple[StageStats, ...]:
        """What each stage did, in pipeline order."""
        return tuple(meter.stats(self.wall_s) for meter in self._meters.values())

    @property
    def devices(self) -> tuple[DeviceStats, ...]:
        """What each of the session's devices did."""
        return tuple(
            DeviceStats(name=name, images=device.images, busy_s=device.clock.total, wall_s=self.wall_s)
            for name, device in self._devices.items()
        )

    def stop(self) -> None:
        """Begin no new batch; what is on its way is done, and `run` then ends as if there were no more. From any thread."""
        self._stopping = True

    @property
    def interface(self) -> Interface:
        """Device execution only."""
        images, busy = self._meters["infer"].images, self._clock.total
        return Interface(throughput=images / busy if busy else 0.0, busy_s=busy)

    def run(self, source: Source) -> Iterator[Prediction]:
        """Yield one prediction per image, in the source's order.

        Raises:
            DataError: an image is unreadable and `count_bad_images` is off.
            InferenceError: the engine failed, or an image ends it and `count_bad_images` is off.
        """
        self._plan = enumerate(source)
        self._total = len(source)
        self._planned: _Batch | None = None
        self._row = self._size - 1  # of the image that was planned last: the next one begins a batch
        start, cpu_before, own_before = perf_counter(), self._cpu(), thread_time()
        threads = [
            *self._start("read", self._read_images, self._read),
            *self._start("decode", self._decode_images, self._full),
            *self._start("infer", self._infer_batches, self._scored),
        ]
        try:
            with suppress(Closed):
                yield from self._post_batches()
            if self._error is not None:
                raise self._error
        finally:
            self.wall_s = perf_counter() - start
            self._abort(self._free, self._read, self._full, self._scored)
            for thread in threads:
                thread.join()
            self._share_out(self._cpu() - cpu_before, thread_time() - own_before)

    def _cpu(self) -> float:
        return process_time() + self._session.cpu_elsewhere_s

    def _share_out(self, total: float, own: float) -> None:
        """Processor time by stage. What an engine computes in threads of its own is what nobody else used."""
        self._meters["post"].cpu = own
        rest = (meter.cpu for name, meter in self._meters.items() if name != "infer")
        self._meters["infer"].cpu = max(0.0, total - sum(rest))

    def _start(self, stage: str, work: Callable[[], None], output: Channel) -> list[Thread]:
        meter = self._meters[stage]

        def body() -> None:
            try:
                work()
            except Closed:
                pass
            except BaseException as error:  # handed to the caller's thread, whatever it is
                self._error = self._error or error
                self._abort(self._free, self._read, self._full)  # what has scores already is still given out
            finally:
                meter.add_cpu(thread_time())
                output.done()

        threads = [Thread(target=body, name=f"modelport-{stage}", daemon=True) for _ in range(meter.workers)]
        for thread in threads:
            thread.start()
        return threads

    def _abort(self, *channels: Channel) -> None:
        for channel in channels:
            channel.abort()

    def _place_next(self) -> tuple[_Batch, int, Sample, float]:
        """The next image and its place; waits for a free buffer where a batch begins."""
        with self._planning:
            if self._stopping and self._row == self._size - 1:
                raise Closed
            try:
                index, sample = next(self._plan)
            except StopIteration:
                raise Closed from None
            row, waited = index % self._size, 0.0
            self._row = row
            if row == 0:
                batch, waited = self._free.get()
                batch.number = index // self._size
                batch.waiting = min(self._size, self._total - index)
                batch.samples.clear()
                batch.errors.clear()
                batch.contents.clear()
                self._planned = batch
            assert self._planned is not None
            self._planned.samples.append(sample)
            return self._planned, row, sample, waited

    def _read_images(self) -> None:
        meter = self._meters["read"]
        while True:
            batch, row, sample, starved = self._place_next()
            start = perf_counter()
            try:
                data: bytes | DataError = sample.read()
                if self._options.contents:
                    batch.contents[row] = hashlib.sha256(data).digest()
            except DataError as error:
                data = error
            busy = perf_counter() - start
            blocked = self._read.put((batch, row, data))
            failed = isinstance(data, DataError)
            meter.add(items=1, images=1, failures=failed, busy=busy, blocked_put=blocked + starved)

    def _decode_images(self) -> None:
        meter, assembly = self._meters["decode"], self._meters["batch"]
        while True:
            (batch, row, data), waited = self._read.get()
            start = perf_counter()
            failed = self._decode(batch, row, data)
            decoded = perf_counter()
            with self._counting:
                batch.waiting -= 1
                complete = batch.waiting == 0
            meter.add(items=1, images=1, failures=failed, busy=decoded - start, blocked_get=waited)
            if complete:
                batch.array[len(batch.samples) :] = 0  # padding of a short last batch; its scores are never looked at
                busy = perf_counter() - decoded
                blocked = self._full.put(batch)
                assembly.add(items=1, images=len(batch.samples), busy=busy, blocked_put=blocked)

    def _decode(self, batch: _Batch, row: int, data: bytes | DataError) -> bool:
        try:
            if isinstance(data, DataError):
                raise data
            self._decoder(batch.samples[row], data, batch.array[row])
        except DataError as error:
            if not self._options.count_bad_images:
                origin = batch.samples[row].origin
                raise DataError(f"{origin}: {error}; {_COUNT}") from error
            batch.array[row] = 0
            batch.errors[row] = str(error)
            return data is not error  # one that could not be read was counted there
        return False

    def _infer_batches(self) -> None:
        device = self._workplaces.get()
        with pinned(device.session.cores):
            self._infer_batches_on(device)

    def _infer_batches_on(self, device: _Device) -> None:
        meter = self._meters["infer"]
        while True:
            batch, waited = self._full.get()
            start = perf_counter()
            rows = [row for row in range(len(batch.samples)) if row not in batch.errors]
            with self._clock, device.clock:
                batch.scores, failed = device.session.infer_rows(batch.array, rows)
            self._note_failed(batch, failed)
            busy = perf_counter() - start
            device.add(len(batch.samples))
            blocked = self._scored.put(batch)
            meter.add(
                items=1,
                images=len(batch.samples),
                failures=len(failed),
                busy=busy,
                blocked_get=waited,
                blocked_put=blocked,
            )

    def _note_failed(self, batch: _Batch, failed: dict[int, str]) -> None:
        if failed and not self._options.count_bad_images:
            row, reason = next(iter(failed.items()))
            raise InferenceError(f"{batch.samples[row].origin}: {reason}; {_COUNT}")
        batch.errors |= failed

    def _post_batches(self) -> Iterator[Prediction]:
        """In the caller's thread: batches back in order, TopN, and the buffer set free."""
        meter, early, expected = self._meters["post"], dict[int, _Batch](), 0
        while True:
            batch, waited = self._scored.get()
            meter.add(blocked_get=waited)
            early[batch.number] = batch
            while (batch := early.pop(expected, None)) is not None:
                expected += 1
                start = perf_counter()
                predictions = self._predict(batch)
                images, failures = len(batch.samples), sum(p.error is not None for p in predictions) - len(batch.errors)
                taken = perf_counter()
                with suppress(Closed):  # another stage has failed: nobody will fill it
                    self._free.put(batch)
                yield from predictions
                meter.add(
                    items=1, images=images, failures=failures, busy=taken - start, blocked_put=perf_counter() - taken
                )

    def _predict(self, batch: _Batch) -> list[Prediction]:
        assert batch.scores is not None
        scores = batch.scores[: len(batch.samples)]
        finite = np.isfinite(scores).all(axis=1)
        order = top_classes(np.where(finite[:, None], scores, 0))
        predictions = []
        for row, sample in enumerate(batch.samples):
            error = batch.errors.get(row)
            if error is None and not finite[row]:
                error = "the model answered with scores that are not finite (NaN or infinity)"
            if error is not None:
                self.bad_images.append(BadImage(key=sample.key, reason=error))
                predictions.append(Prediction(sample, _NOTHING, _NOTHING, None, error, batch.contents.get(row)))
                continue
            kept = scores[row].copy() if self._options.keep_scores else None
            best, content = order[row], batch.contents.get(row)
            predictions.append(Prediction(sample, best, scores[row][best], kept, content=content))
        return predictions
