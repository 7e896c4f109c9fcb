"""Pure inference of CSPResNeXt50 against what users run today: PyTorch, and the runtimes as they are set by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from interleave import Figure, Spread, Work, interleave
from models import Configuration, Models

from modelport.measure.bench import run_rounds
from modelport.measure.sweep import SweepSpace
from modelport.measure.tune import TuneOptions, tune
from modelport.results import MachinePeaks, SweepSettings
from modelport.spec import Precision

EAGER, BARE = "PyTorch eager f32", "the same blob in OpenVINO's own queue"
OURS = "modelport"
ALWAYS = (
    Configuration("openvino", Precision.F32),
    Configuration("openvino", Precision.BF16),
    Configuration("openvino", Precision.INT8),
    Configuration("onnxruntime", Precision.F32),
    Configuration("onnxruntime", Precision.INT8),
)


def chosen_by_tune(models: Models, batches: tuple[int, ...], images: Path) -> dict[int, Configuration]:
    """What `modelport tune` finds fastest at each batch size; weights are random, so its accuracy floor is open."""
    space = SweepSpace(
        engines=("openvino",),
        precisions=(Precision.BF16, Precision.INT8),
        batch_sizes=batches,
        streams=(1, 2),
        threads=(2,),
        inputs=("float32", "uint8"),
        repeats=2,
        calibration=models.calibration,
    )
    options = TuneOptions(max_drop_points=100, limit=16, sweep=SweepSettings(seconds=1.0, saturation=None))
    found = tune(models.onnx, images, models.directory / "tune", space, options=options, force=True)
    best = {}
    for size in batches:
        ran = [measured for measured in found.sweep.ran if measured.configuration.batch_size == size]
        winner = max(ran, key=lambda measured: measured.throughput or 0).configuration
        best[size] = Configuration(winner.engine, winner.precision, winner.input, winner.streams)
    return best


def measure(  # noqa: PLR0913
    models: Models, tuned: dict[int, Configuration], peaks: MachinePeaks, *, compiled: bool, turns: int, seconds: float
) -> dict[str, list[Figure]]:
    """A table per batch size; the first contestant is PyTorch eager in f32. `compiled`: torch.compile runs too."""
    tables = {}
    for batch, best in tuned.items():
        with ExitStack() as stack:
            contestants = _peers(models, batch, compiled=compiled)
            for wanted in dict.fromkeys((*ALWAYS, best)):
                contestants[wanted.name] = stack.enter_context(running(models, wanted, batch))
            contestants[BARE] = stack.enter_context(_bare_queue(models, best, batch))
            figures = interleave(contestants, turns=turns, seconds=seconds)
        tables[f"pure inference, batch {batch}"] = [_limited(figure, models, peaks) for figure in figures]
    return tables


def summary(title: str, figures: list[Figure]) -> list[str]:
    """Our best against the peers' best, against eager, and against the bare queue."""
    by_name = {figure.name: figure for figure in figures}
    ours = [figure for figure in figures if figure.name.startswith(OURS)]
    best = max(ours, key=lambda figure: figure.rate[0])
    peers = [figure for figure in figures if figure not in ours and figure.name != BARE]
    peer = max(peers, key=lambda figure: figure.rate[0])
    lines = [
        f"{title}: {best.name} ÷ {peer.name}, the fastest peer: {_text(best.over(peer))}",
        f"{title}: {best.name} ÷ {EAGER}: {_text(best.over(by_name[EAGER]))}",
    ]
    tuned = ours[-1]  # what the bare queue runs too
    return [*lines, f"{title}: {tuned.name} ÷ {BARE}: {_text(tuned.over(by_name[BARE]), 3)}"]


def in_flight(batch: int) -> int:
    """Batches for each stream before the clock is read again: enough that the last one alone does not count."""
    return max(4, 64 // batch)


@contextmanager
def running(models: Models, wanted: Configuration, batch: int) -> Iterator[Work]:
    """A session that is kept busy, with as many calls at once as it has slots."""
    with models.open(wanted, batch) as session:
        array, count = session.random_batch(), in_flight(batch) * session.slots

        def rounds() -> tuple[int, float]:
            _, wall = run_rounds(session, array, count, lambda done, total: None)
            return batch * count, wall

        yield rounds


@contextmanager
def _bare_queue(models: Models, wanted: Configuration, batch: int) -> Iterator[Work]:
    """The same blob with the same settings, without modelport: a loop over the engine's own asynchronous queue."""
    import openvino

    model = models.compiled(wanted, batch)
    rest = model.manifest.precision.rest or model.manifest.precision.executed
    settings = {"INFERENCE_PRECISION_HINT": str(rest), "NUM_STREAMS": wanted.streams, "INFERENCE_NUM_THREADS": 2}
    compiled = openvino.Core().import_model(model.file("model.blob").read_bytes(), "CPU", settings)
    queue = openvino.AsyncInferQueue(compiled, wanted.streams)
    with models.open(wanted, batch) as session:
        array = session.random_batch()
    count = in_flight(batch) * wanted.streams

    def loop() -> int:
        for _ in range(count):
            queue.start_async({0: array}, share_inputs=True)
        queue.wait_all()
        return batch * count

    yield loop


def _limited(figure: Figure, models: Models, peaks: MachinePeaks) -> Figure:
    """Ours beside the measured peak of the arithmetic they run in."""
    words = figure.name.split()
    if words[0] != OURS or Precision(words[2].rstrip(",")) not in peaks.operations:
        return figure
    limit = peaks.operations[Precision(words[2].rstrip(","))] / (models.gflop * 1e9)
    return figure.limited((limit,) * len(figure.rates))


def _peers(models: Models, batch: int, *, compiled: bool) -> dict[str, Work]:
    """PyTorch eager and compiled, and each runtime as it is set by default: OpenVINO picks bf16 by itself on a CPU that has it."""
    import onnxruntime
    import openvino

    images = np.random.default_rng(0).standard_normal((batch, 3, models.size, models.size), dtype=np.float32)
    session = onnxruntime.InferenceSession(models.onnx, providers=["CPUExecutionProvider"])
    model = openvino.Core().read_model(models.onnx)
    model.reshape({"image": list(images.shape)})
    # benchmark_app's default: the THROUGHPUT hint, with as many requests in flight as the plugin asks for.
    queue = openvino.AsyncInferQueue(openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"}))

    def asynchronous() -> int:
        for _ in range(in_flight(batch) * len(queue)):
            queue.start_async({0: images}, share_inputs=True)
        queue.wait_all()
        return batch * in_flight(batch) * len(queue)

    def default() -> int:
        session.run(None, {"image": images})
        return batch

    return {
        **_torch(models, images, compiled=compiled),
        "ONNX Runtime default": default,
        "OpenVINO as benchmark_app sets it": asynchronous,
    }


def _torch(models: Models, images: np.ndarray, *, compiled: bool) -> dict[str, Work]:
    import torch
    import torch._inductor.config

    torch._inductor.config.freezing = True
    tensor, network = torch.from_numpy(images), models.network()

    def running(module: object, given: torch.Tensor) -> Callable[[], int]:
        def once() -> int:
            with torch.inference_mode():
                module(given)
            return len(given)

        return once

    contestants = {EAGER: running(network, tensor)}
    if compiled:
        torch.compiler.reset()
        contestants["torch.compile f32"] = running(torch.compile(network, dynamic=False), tensor)
        half = models.network().to(torch.bfloat16).to(memory_format=torch.channels_last)
        given = tensor.to(torch.bfloat16).to(memory_format=torch.channels_last)
        contestants["torch.compile bf16, channels last"] = running(torch.compile(half, dynamic=False), given)
    return contestants


def _text(spread: Spread, digits: int = 2) -> str:
    return f"{spread[0]:.{digits}f} ({spread[1]:.{digits}f}–{spread[2]:.{digits}f})"
