"""From JPEG files in memory, or from pixels on disk, to scores: who fills the batches, and how fast all of it goes.

The batches go through the engine's own runner, whose pinned buffers and streams overlap copying with computing.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context, shared_memory
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np

from . import decode_worker

_SHARED = Path("/dev/shm")
_CHUNK = 16  # images that one worker prepares at a time
Wait = Callable[[], Any]
Begin = Callable[[int, int], Wait]  # slot and number of the batch: begins to fill it, returns what waits for it


@contextmanager
def shared_slots(count: int, batch: int, size: int) -> Iterator[tuple[str | None, np.ndarray]]:
    """Memory that worker processes map: its name, and slots x batch x height x width x 3.

    Where a container has too little of it, which only shows by a crash when it is written to, the name is None and the memory
    ordinary: threads can fill it.
    """
    shape = (count, batch, size, size, 3)
    if (disk_usage(_SHARED).free if _SHARED.is_dir() else 0) < 1.2 * np.prod(shape):
        yield None, np.zeros(shape, np.uint8)
        return
    memory = shared_memory.SharedMemory(create=True, size=int(np.prod(shape)))
    try:
        slots = np.ndarray(shape, np.uint8, memory.buf)
        slots[:] = 0  # every page is there before it is timed
        yield memory.name, slots
    finally:
        memory.unlink()
        with suppress(BufferError):  # an array of it may live a little longer
            memory.close()


def decoding(executor: Executor, fill: Callable[[int, int, int, int], None], batch: int) -> Begin:
    """Decoders that share each batch out among the workers."""

    def begin(slot: int, number: int) -> Wait:
        futures = [
            executor.submit(fill, slot, number * batch + row, row, min(_CHUNK, batch - row))
            for row in range(0, batch, _CHUNK)
        ]
        return partial(_all, futures)

    return begin


def _all(futures: list[Future]) -> None:
    for future in futures:
        future.result()


@contextmanager
def decoders(kind: str, files: list[bytes], name: str | None, slots: np.ndarray, workers: int) -> Iterator[Begin]:
    """CPU decoders, as threads or as processes, all of them started."""
    if kind == "threads":
        executor: Executor = ThreadPoolExecutor(workers)

        def fill(slot: int, first: int, row: int, count: int) -> None:
            decode_worker.fill_rows(files, slots[slot], first, row, count)
    else:
        what = (files, name, slots.shape)
        executor = ProcessPoolExecutor(workers, get_context("spawn"), decode_worker.start, what)
        fill = decode_worker.fill
    with executor:
        begin = decoding(executor, fill, slots.shape[1])
        for wait in [begin(slot, slot) for slot in range(len(slots))]:
            wait()
        yield begin


class PixelShards:
    """Pixels of images in files, one after the other as `modelport pack --pixels` keeps them, read straight into a slot."""

    def __init__(self, directory: Path, pixels: np.ndarray, files: int, workers: int):
        """Write `files` files that hold the pixels (images x height x width x 3) each."""
        self._image = pixels[0].nbytes
        self._each = len(pixels)
        self._handles = []
        for number in range(files):
            path = directory / f"{number:06d}.pixels"
            path.write_bytes(np.roll(pixels, number, axis=0).tobytes())
            self._handles.append(os.open(path, os.O_RDONLY))
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers)

    def begin_in(self, slots: np.ndarray) -> Begin:
        """A filler of these slots."""
        batch = slots.shape[1]
        part = -(-batch // self._workers)

        def begin(slot: int, number: int) -> Wait:
            futures = [
                self._pool.submit(self._read, slots[slot, row : row + part], number * batch + row)
                for row in range(0, batch, part)
            ]
            return partial(_all, futures)

        return begin

    def _read(self, rows: np.ndarray, first: int) -> None:
        """Images from number `first` on; the files repeat."""
        done = 0
        while done < len(rows):
            shard, place = divmod((first + done) % (self._each * len(self._handles)), self._each)
            count = min(len(rows) - done, self._each - place)
            view = memoryview(rows[done : done + count]).cast("B")
            got = os.preadv(self._handles[shard], [view], place * self._image)
            if got != len(view):
                raise OSError(f"read {got} of {len(view)} bytes of a shard")
            done += count

    def close(self) -> None:
        """Close the files."""
        self._pool.shutdown()
        for handle in self._handles:
            os.close(handle)


def only_fill(begin: Begin, slots: np.ndarray, seconds: float) -> float:
    """Images a second that are prepared while nobody takes them."""
    count, batch = slots.shape[:2]
    pending = deque((begin(slot, slot), slot) for slot in range(count))
    number, done, start = count, 0, time.perf_counter()
    while time.perf_counter() - start < seconds or not done:
        wait, slot = pending.popleft()
        wait()
        done += 1
        pending.append((begin(slot, number), slot))
        number += 1
    took = time.perf_counter() - start
    for wait, _ in pending:
        wait()
    return done * batch / took


def feed(runner: Any, begin: Begin, slots: np.ndarray, *, buffers: int, seconds: float) -> dict[str, float]:
    """Run what is filled through an open runner for a while.

    Returns:
        images a second, and the shares of the time that the feeding thread waited for the filler (near 1: filling limits), waited
        for the device (near 1: the device limits), and took to hand batches over.
    """
    count, batch = slots.shape[:2]
    pending = deque((begin(slot, slot), slot) for slot in range(count))
    tickets: deque[Any] = deque()
    number, done, waited = count, 0, {"filling": 0.0, "device": 0.0, "handing_over": 0.0}

    def timed(what: str, work: Wait) -> Any:
        since = time.perf_counter()
        result = work()
        waited[what] += time.perf_counter() - since
        return result

    start = time.perf_counter()
    while time.perf_counter() - start < seconds or not done:
        wait, slot = pending.popleft()
        timed("filling", wait)
        if len(tickets) == buffers:
            timed("device", partial(runner.wait, tickets.popleft()))
        tickets.append(timed("handing_over", partial(runner.submit, slots[slot])))
        pending.append((begin(slot, number), slot))  # the runner has copied it
        number, done = number + 1, done + 1
    for ticket in tickets:
        timed("device", partial(runner.wait, ticket))
    took = time.perf_counter() - start
    for wait, _ in pending:
        wait()
    return {"images_per_s": done * batch / took, "batches": done} | {
        f"share_{what}": spent / took for what, spent in waited.items()
    }
