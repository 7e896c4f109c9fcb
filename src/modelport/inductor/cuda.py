"""A package on an NVIDIA GPU: pinned buffers, three streams, and the kernels of a batch recorded as one CUDA graph.

Never run where it was written, which has no GPU: docs/gpu.md says what was checked and how.

Each buffer has an input and an output on the host (pinned, so that copies need not wait for the processor) and on the device.
A batch goes in on one stream, is computed on another and comes back on a third; events between them keep its own order, and
nothing else does. So with two buffers the copies of one batch run while the other computes.

A recorded graph reads and writes fixed addresses, so each buffer has one of its own; what lies between input and output is
memory that all of them share, since they run one after the other on one stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
import torch

from ..errors import InferenceError
from .facts import PackageFacts
from .package import tf32
from .runner import Runner, RunnerOptions, Ticket, Times, load_kernels

_opening = Lock()  # recording a graph and cuDNN's timing are disturbed by another that does the same


@dataclass(slots=True)
class _Marks:
    """Events of one batch: `copied` and `computed` order the streams, the others are there to be timed."""

    begin: torch.cuda.Event
    copied: torch.cuda.Event
    start: torch.cuda.Event
    computed: torch.cuda.Event
    leaving: torch.cuda.Event
    done: torch.cuda.Event


@dataclass(slots=True)
class _Buffer:
    """Memory of one batch on its way, and its recorded graph."""

    host_images: torch.Tensor
    images: torch.Tensor
    scores: torch.Tensor
    host_scores: torch.Tensor
    marks: _Marks
    graph: torch.cuda.CUDAGraph | None = None


class CudaRunner(Runner):
    """Batches on their way through one GPU.

    Attributes:
        stream: on which everything is computed; for events of one's own around `replay`.
    """

    def __init__(self, path: Path, facts: PackageFacts, options: RunnerOptions) -> None:
        super().__init__(path, facts)
        self._options, self._device = options, torch.device("cuda", options.index)
        self._free: SimpleQueue[_Buffer] = SimpleQueue()
        self._order = Lock()
        self._pool: Any = None
        with _opening, torch.cuda.device(self._device):
            self.stream, self._inward, self._outward = (torch.cuda.Stream() for _ in range(3))
            self._model = load_kernels(path, single_threaded=True, index=options.index)
            with self._arithmetic(), torch.inference_mode():
                scores = self._warm_up()
                self.output_shape = tuple(scores.shape)
                self._buffers = [self._make_buffer(scores) for _ in range(options.buffers)]
            torch.cuda.synchronize()
        for buffer in self._buffers:
            self._free.put(buffer)

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """PyTorch's switches as this package needs them; a recorded graph keeps what held while it was recorded."""
        with tf32(self.facts.tf32):
            before = torch.backends.cudnn.benchmark
            torch.backends.cudnn.benchmark = self._options.benchmark
            try:
                yield
            finally:
                torch.backends.cudnn.benchmark = before

    def _warm_up(self) -> torch.Tensor:
        """Run it as it is: kernels are loaded and cuDNN's algorithms chosen, which cannot be recorded."""
        images = self._blank()
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            for _ in range(self._options.warmup):
                scores = self._model(images)
        self.stream.synchronize()
        return scores

    def _blank(self) -> torch.Tensor:
        """A batch of zeros on the device."""
        dtype = torch.uint8 if self.facts.pixels else torch.float32
        return torch.zeros(self.facts.shape, dtype=dtype, device=self._device)

    def _make_buffer(self, scores: torch.Tensor) -> _Buffer:
        images = self._blank()
        # Where several batches are on their way their threads sleep, since decoding needs the cores; one alone spins.
        sleeps = self._options.buffers > 1
        timed = self._options.timing
        marks = _Marks(
            *(torch.cuda.Event(enable_timing=timed) for _ in range(5)),
            done=torch.cuda.Event(enable_timing=timed, blocking=sleeps),
        )
        buffer = _Buffer(
            host_images=torch.empty(images.shape, dtype=images.dtype, pin_memory=True),
            images=images,
            scores=torch.empty_like(scores),
            host_scores=torch.empty(scores.shape, dtype=scores.dtype, pin_memory=True),
            marks=marks,
        )
        torch.cuda.synchronize()
        if self._options.cuda_graph:
            buffer.graph = self._record(buffer)
        return buffer

    def _record(self, buffer: _Buffer) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Thread-local: another thread may use this or another GPU meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self.stream, capture_error_mode="thread_local"):
            buffer.scores.copy_(self._model(buffer.images))
        self._pool = graph.pool()
        return graph

    def _compute(self, buffer: _Buffer) -> None:
        """Enqueue on the current stream."""
        if buffer.graph is not None:
            buffer.graph.replay()
            return
        with self._arithmetic():
            buffer.scores.copy_(self._model(buffer.images))

    def _submit(self, batch: np.ndarray) -> Ticket:
        try:
            buffer = self._free.get_nowait()
        except Empty:
            raise InferenceError(
                f"{self.path}: {self._options.buffers} batches are on their way, as many as it has buffers; wait for one first"
            ) from None
        try:
            np.copyto(buffer.host_images.numpy(), batch)
            with self._order, torch.cuda.device(self._device), torch.inference_mode():
                self._enqueue(buffer)
        except BaseException:
            self._free.put(buffer)
            raise
        return Ticket(buffer)

    def _enqueue(self, buffer: _Buffer) -> None:
        marks = buffer.marks
        with torch.cuda.stream(self._inward):
            marks.begin.record()
            buffer.images.copy_(buffer.host_images, non_blocking=True)
            marks.copied.record()
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(marks.copied)
            marks.start.record()
            self._compute(buffer)
            marks.computed.record()
        with torch.cuda.stream(self._outward):
            self._outward.wait_event(marks.computed)
            marks.leaving.record()
            buffer.host_scores.copy_(buffer.scores, non_blocking=True)
            marks.done.record()

    def _wait(self, ticket: Ticket) -> np.ndarray:
        buffer: _Buffer = ticket.place
        marks = buffer.marks
        try:
            marks.done.synchronize()
            if self._options.timing:
                ticket.times = Times(
                    to_device_ms=marks.begin.elapsed_time(marks.copied),
                    compute_ms=marks.start.elapsed_time(marks.computed),
                    to_host_ms=marks.leaving.elapsed_time(marks.done),
                )
            return buffer.host_scores.numpy().copy()
        finally:
            self._free.put(buffer)  # only now: until here the device may read or write its memory

    def load(self, images: torch.Tensor) -> None:
        with self._order, torch.cuda.device(self._device), torch.inference_mode(), torch.cuda.stream(self.stream):
            self._buffers[0].images.copy_(images)
            images.record_stream(self.stream)  # its memory is not given to others before it is copied

    def replay(self) -> None:
        with self._order, torch.cuda.device(self._device), torch.inference_mode(), torch.cuda.stream(self.stream):
            self._compute(self._buffers[0])

    def synchronize(self) -> None:
        torch.cuda.synchronize(self._device)

    def close(self) -> None:
        if self._model is None:
            return
        with suppress(RuntimeError):  # after an error of the device everything raises it again
            self.synchronize()
        self._buffers, self._free, self._model, self._pool = [], SimpleQueue(), None, None
        with suppress(RuntimeError):
            torch.cuda.empty_cache()
