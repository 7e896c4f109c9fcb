"""One trial of a configuration in a child process: a crash or a hang is an outcome, and the search goes on.

Compiling, quantising and classifying for a search are done apart as well, since they can crash and hang too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import child
from ..child import ChildDiedError, ChildTimeoutError
from ..engines import load
from ..engines.base import CompileOptions
from ..engines.compiler import compile_model
from ..engines.session import Session, SessionOptions
from ..errors import CompilerDiedError, CompilerTimeoutError, InferenceError, ModelportError
from ..exclusive import watch
from ..host import usable_cores
from ..inference import infer
from ..offline import OfflineModel
from ..pipeline import PipelineOptions
from ..results import Configuration, Outcome, SweepSettings, Trial
from ..spec import ModelSpec
from ..work import InferOptions
from .bench import run_rounds

if TYPE_CHECKING:
    from ..exporter.program import TorchWeights

LEAST_ROUNDS = 3  # of each stream, however long they take
MOST_ROUNDS = 10_000  # in all: a journal of a model that takes microseconds would be nothing but digits


class FailedWorkError(Exception):
    """A child's work did not succeed: `outcome` as in `Trial`, and why."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


def run_trial(model: Path, configuration: Configuration, repeat: int, settings: SweepSettings) -> Trial:
    """Open an offline model in a child process and measure it for a while.

    Args:
        model: directory of the configuration's offline model.
        configuration: streams and threads are taken from it.
        repeat: number of this trial, from 1.
        settings: time, warmup, time-out.

    Returns:
        The trial, whatever its outcome.
    """
    request = {
        "work": "trial",
        "model": str(model),
        "streams": configuration.streams,
        "threads": configuration.threads,
        "seconds": settings.seconds,
        "warmup": settings.warmup,
    }
    try:
        reply = _ask(request, settings.trial_timeout_s)
    except FailedWorkError as error:
        return Trial(configuration=configuration, repeat=repeat, outcome=error.outcome, reason=error.reason)
    known = {"configuration": configuration.jsonable(), "repeat": repeat, "outcome": "ok"}
    return Trial.parse(known | reply, "a trial's reply")


def compile_apart(  # noqa: PLR0913, PLR0917
    onnx: Path,
    spec: ModelSpec,
    configuration: Configuration,
    output: Path,
    timeout: float,
    weights: TorchWeights | None = None,
) -> None:
    """Compile a configuration's offline model in a child process, replacing `output`.

    `weights` is where the network lies in PyTorch, for an engine that compiles that.

    Raises:
        FailedWorkError: the engine refused it, its compiler died or took too long.
    """
    used = weights if load(configuration.engine).from_program else None
    with _outcomes(), _program(compile_options(configuration), spec, onnx, used) as options:
        compile_model(
            onnx, output, engine=configuration.engine, options=options, preprocess=spec.preprocess,
            num_classes=spec.num_classes, force=True, timeout=timeout,
        )  # fmt: skip


@contextmanager
def _program(
    options: CompileOptions, spec: ModelSpec, onnx: Path, weights: TorchWeights | None
) -> Iterator[CompileOptions]:
    if weights is None:
        yield options
        return
    from ..exporter.program import with_program

    with with_program(options, weights, spec, onnx) as found:
        yield found


def compile_options(configuration: Configuration) -> CompileOptions:
    """What a configuration is compiled with."""
    return CompileOptions(
        precision=configuration.precision, batch_size=configuration.batch_size, input_dtype=configuration.input
    )


def quantize_apart(  # noqa: PLR0913
    onnx: Path, spec: ModelSpec, *, images: Path | str, tool: str, output: Path, timeout: float
) -> None:
    """Quantise an ONNX file in a child process into `output`, replacing it.

    Raises:
        FailedWorkError: it failed, died or took too long.
    """
    request = {
        "work": "quantize",
        "onnx": str(onnx.resolve()),
        "spec": spec.jsonable(),
        "images": str(images),
        "tool": tool,
        "output": str(output.resolve()),
    }
    _ask(request, timeout)


def infer_apart(  # noqa: PLR0913
    model: Path, images: Path | str, labels: Path | None, *, limit: int | None, output: Path, timeout: float
) -> None:
    """Classify images in a child process into `output`, going on with what is there; a bad image is counted, not an error.

    Raises:
        FailedWorkError: it failed, died or took too long.
    """
    request = {
        "work": "infer",
        "model": str(model),
        "images": str(images),
        "labels": str(labels) if labels else None,
        "limit": limit,
        "output": str(output),
    }
    _ask(request, timeout)


def _ask(request: dict[str, Any], timeout: float) -> dict[str, Any]:
    with _outcomes():
        return child.ask(__name__, request, timeout=timeout)


@contextmanager
def _outcomes() -> Iterator[None]:
    """Each way in which work can fail, as the outcome that is recorded."""
    try:
        yield
    except (ChildTimeoutError, CompilerTimeoutError) as error:
        raise FailedWorkError("timeout", str(error)) from error
    except (ChildDiedError, CompilerDiedError, InferenceError) as error:
        raise FailedWorkError("crashed", str(error)) from error
    except ModelportError as error:
        raise FailedWorkError("refused", str(error)) from error


# -- the child's side


def run_for(session: Session, batch: np.ndarray, seconds: float) -> tuple[tuple[float, ...], float]:
    """Latency of each round in a time budget, and the wall time of all; every slot of the session is kept busy."""
    begin = perf_counter()

    def keep_busy(_: int) -> list[float]:
        latencies: list[float] = []
        start = perf_counter()
        while len(latencies) < LEAST_ROUNDS or (
            start - begin < seconds and len(latencies) * session.slots < MOST_ROUNDS
        ):
            session.infer(batch)
            end = perf_counter()
            latencies.append(end - start)
            start = end
        return latencies

    if session.slots == 1:
        found = [keep_busy(0)]
    else:
        with ThreadPoolExecutor(session.slots) as pool:
            found = list(pool.map(keep_busy, range(session.slots)))
    return tuple(latency for latencies in found for latency in latencies), perf_counter() - begin


def _trial(request: dict[str, Any]) -> dict[str, Any]:
    model = OfflineModel.load(Path(request["model"]))
    options = SessionOptions(streams=request["streams"], threads=request["threads"])
    with watch() as watched, load(model.manifest.engine.name).open(model, options) as session:
        batch = session.random_batch()
        before, _ = run_rounds(session, batch, request["warmup"], lambda done, total: None)
        counted, wall = run_for(session, batch, request["seconds"])
    assert watched.hygiene is not None
    return {
        "executed_precision": model.manifest.precision.executed,
        "warmup_s": [round(latency, 7) for latency in before],
        "latencies_s": [round(latency, 7) for latency in counted],
        "wall_s": wall,
        "hygiene": watched.hygiene.jsonable(),
    }


def _quantize(request: dict[str, Any]) -> dict[str, Any]:
    from ..quantize import QuantizeOptions, quantize

    spec = ModelSpec.parse(request["spec"], "request")
    quantize(
        request["onnx"],
        request["images"],
        request["output"],
        options=QuantizeOptions(tool=request["tool"]),
        preprocess=spec.preprocess,
        num_classes=spec.num_classes,
        force=True,
    )
    return {}


def _infer(request: dict[str, Any]) -> dict[str, Any]:
    options = InferOptions(limit=request["limit"], pipeline=PipelineOptions(decoders=usable_cores()))
    infer(
        request["model"],
        request["images"],
        request["output"],
        labels=request["labels"],
        options=options,
        existing="update",
    )
    return {}


_WORK: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"trial": _trial, "quantize": _quantize, "infer": _infer}

if __name__ == "__main__":
    child.answer(lambda request: _WORK[request["work"]](request))
