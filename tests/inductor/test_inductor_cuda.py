"""The way of a batch through a GPU's buffers, on a stand-in of `torch.cuda` that computes on the processor.

What is proven is the order of our calls and which memory they touch, never a device. A recorded graph is played back operator by
operator on the tensors that it was recorded with, as CUDA does: whoever hands it other memory gets the old answer.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import models
import torch
import torch_models
from torch.utils._python_dispatch import TorchDispatchMode

from modelport.errors import InferenceError
from modelport.inductor import cuda
from modelport.inductor.facts import Gpu, PackageFacts
from modelport.inductor.runner import RunnerOptions

GPU = Gpu(name="stand-in", architecture="sm_00", driver="0")
FACTS = PackageFacts(
    torch=torch.__version__, device="cuda", dtype="float32", shape=(2, *models.SIZE), pixels=False, tf32=False, folded=0,
    gpu=GPU, settings={},
)  # fmt: skip


class Recorder(TorchDispatchMode):
    """Operators with the tensors that they were run on."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, result))
        return result


class Graph:
    def __init__(self, log: list[str]) -> None:
        self.log, self.recorder = log, Recorder()

    def pool(self) -> str:
        return "pool"

    def replay(self) -> None:
        self.log.append("replay")
        for func, args, kwargs, result in self.recorder.steps:
            again = func(*args, **kwargs)
            if isinstance(result, torch.Tensor) and again.data_ptr() != result.data_ptr():
                result.copy_(again)


class StandIn:
    """The parts of `torch` that the runner uses; everything else is the real one's."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.pools: list[Any] = []
        self.benchmark: list[bool] = []
        self.clock = 0.0
        self.backends = SimpleNamespace(cudnn=SimpleNamespace(benchmark=False))
        self.cuda = SimpleNamespace(
            device=lambda device: nullcontext(),
            synchronize=lambda *_: None,
            empty_cache=lambda: None,
            Stream=self._stream,
            stream=self._on,
            Event=self._event,
            CUDAGraph=lambda: Graph(self.log),
            graph=self._capture,
        )
        self.streams = 0
        self.current = "default"

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def device(self, kind: str, index: int) -> str:
        assert kind == "cuda"
        return f"cuda:{index}"

    def zeros(self, shape, dtype, device) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype)

    def empty(self, shape, dtype, pin_memory) -> torch.Tensor:
        assert pin_memory
        return torch.full(tuple(shape), 7, dtype=dtype)

    def _stream(self) -> Any:
        self.streams += 1
        name = ("compute", "in", "out")[self.streams - 1]
        wait = lambda event: self.log.append(f"{name} waits for {event.stream}")  # noqa: E731
        return SimpleNamespace(name=name, wait_event=wait, synchronize=lambda: None)

    @contextmanager
    def _on(self, stream):
        before, self.current = self.current, stream.name
        yield
        self.current = before

    def _event(self, **kinds):
        event = SimpleNamespace(stream="", at=0.0, kinds=kinds)

        def record() -> None:
            self.clock += 1
            event.stream, event.at = self.current, self.clock

        event.record, event.synchronize = record, lambda: self.log.append(f"host waits for {event.stream}")
        event.elapsed_time = lambda other: other.at - event.at
        return event

    @contextmanager
    def _capture(self, graph, *, pool, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        self.pools.append(pool)
        self.benchmark.append(self.backends.cudnn.benchmark)
        with self._on(stream), graph.recorder:
            yield


@pytest.fixture
def card(monkeypatch) -> StandIn:
    stand_in, network = StandIn(), torch_models.tiny_network()
    monkeypatch.setattr(cuda, "torch", stand_in)
    monkeypatch.setattr(cuda, "tf32", lambda allowed: nullcontext())
    monkeypatch.setattr(cuda, "load_kernels", lambda path, *, single_threaded, index: network)
    return stand_in


def open_card(**options: Any) -> cuda.CudaRunner:
    return cuda.CudaRunner(Path("x.pt2"), FACTS, RunnerOptions(**options))


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_batches_on_their_way_keep_their_own_memory(card, cuda_graph):
    batches = [models.images(2, seed) for seed in range(4)]
    with open_card(buffers=2, cuda_graph=cuda_graph) as runner:
        assert runner.output_shape == (2, models.CLASSES)
        first, second = runner.submit(batches[0]), runner.submit(batches[1])
        answers = {1: runner.wait(second), 0: runner.wait(first)}
        answers |= {number: runner.run(batches[number]) for number in (2, 3)}
        runner.replay()

    for number, scores in answers.items():
        np.testing.assert_allclose(scores, models.expected_scores(batches[number]), rtol=0, atol=1e-5)


def test_each_buffer_has_its_graph_and_they_share_one_pool(card):
    with open_card(buffers=3):
        assert card.pools == [None, "pool", "pool"]
        assert card.benchmark == [True, True, True]
    assert card.backends.cudnn.benchmark is False


def test_streams_wait_for_each_other_in_the_order_of_a_batch(card):
    with open_card(buffers=1) as runner:
        card.log.clear()
        runner.run(models.images(2))

    assert card.log == ["compute waits for in", "replay", "out waits for compute", "host waits for out"]


def test_times_are_those_between_the_events(card):
    with open_card(buffers=1, timing=True) as runner:
        ticket = runner.submit(models.images(2))
        runner.wait(ticket)

    assert ticket.times == cuda.Times(to_device_ms=1.0, compute_ms=1.0, to_host_ms=1.0)


def test_more_batches_than_buffers_are_refused_and_a_failure_gives_its_buffer_back(card, monkeypatch):
    with open_card(buffers=1) as runner:
        ticket = runner.submit(models.images(2))
        with pytest.raises(
            InferenceError, match=r"x\.pt2: 1 batches are on their way, as many as it has buffers; wait for one first"
        ):
            runner.submit(models.images(2))
        runner.wait(ticket)
        monkeypatch.setattr(
            runner, "_enqueue", lambda buffer: (_ for _ in ()).throw(RuntimeError("CUDA error: an illegal access"))
        )
        with pytest.raises(InferenceError, match="AOTInductor failed: CUDA error: an illegal access"):
            runner.submit(models.images(2))
        monkeypatch.undo()
        assert runner._free.qsize() == 1


def test_a_lone_batch_is_waited_for_awake_and_several_asleep(card):
    for buffers in (1, 2):
        card.streams = 0
        with open_card(buffers=buffers) as runner:
            assert runner._buffers[0].marks.done.kinds["blocking"] is (buffers > 1)
        runner.close()
