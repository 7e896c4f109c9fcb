"""An engine that computes almost nothing, for tests and for measuring modelport's own overhead.

A score is the image's mean value times the class's number, so results are predictable and batches cannot be mixed up
unnoticed. The mean is of what the session is given: normalised values, or pixels of 0…255 where the input is uint8.
Faults are injected through the environment variable `MODELPORT_NULL_FAULT`:

    compile-raise     the compiler raises
    compile-signal    the compiling process dies by SIGSEGV
    compile-hang      compiling takes an hour
    open-signal       the process dies by SIGSEGV as it opens the model
    infer-raise:WHEN  a batch raises
    infer-nan:WHEN    a batch answers NaN
    infer-signal:WHEN the process dies by SIGSEGV at a batch
    infer-hang:WHEN   a batch takes an hour
    infer-slow:MS     every batch takes that many milliseconds

WHEN says which batch it is:

    N                 the N-th since the model was opened, from 1
    N@FILE            the N-th of all processes that count in FILE, so that it happens once however often one is started
    >X                each one with an image whose mean is above X
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import sleep

import numpy as np

from .. import __version__
from ..errors import CompileError, InferenceError
from ..graph import ClassifierGraph
from ..offline import OfflineModel
from ..spec import ModelSpec, Precision
from .base import Compiled, CompileOptions, Engine
from .session import Session, SessionOptions

FAULT = "MODELPORT_NULL_FAULT"
_FILE = "null.txt"


class NullEngine(Engine):
    """The shipped fake."""

    name = "null"
    title = "the null engine"
    extra = None
    precisions = (Precision.F32,)
    portable = True

    def version(self) -> str:
        return __version__

    def compile_into(
        self, directory: Path, graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions
    ) -> Compiled:
        fault = os.environ.get(FAULT)
        if fault == "compile-raise":
            raise CompileError(f"the null engine cannot compile {graph.path}: {FAULT} asked for it")
        if fault == "compile-signal":
            signal.raise_signal(signal.SIGSEGV)
        if fault == "compile-hang":
            sleep(3600)
        (directory / _FILE).write_text(f"{graph.sha256}\n")
        return Compiled(files=(_FILE,), executed=Precision.F32)

    def _open(self, model: OfflineModel, options: SessionOptions) -> Session:
        if os.environ.get(FAULT) == "open-signal":
            signal.raise_signal(signal.SIGSEGV)
        return NullSession(model, options.streams)


class NullSession(Session):
    """Scores are the image's mean times 1…classes."""

    def __init__(self, model: OfflineModel, slots: int) -> None:
        super().__init__(str(model.path), model.tensors, slots)
        self._weights = np.arange(1, model.manifest.model.num_classes + 1, dtype=np.float32)
        self._fault, _, when = os.environ.get(FAULT, "").partition(":")
        self._faulty = _when(when)
        self._pause_s = float(when) / 1000 if self._fault == "infer-slow" else 0.0

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        means = batch.mean(axis=(1, 2, 3)).astype(np.float32)
        scores = means[:, None] * self._weights
        if self._fault == "infer-slow":
            sleep(self._pause_s)
        elif self._faulty(means):
            if self._fault == "infer-raise":
                raise InferenceError(f"{self.where}: the null engine failed: {FAULT} asked for it")
            if self._fault == "infer-signal":
                signal.raise_signal(signal.SIGSEGV)  # in this very thread: nothing is answered
            if self._fault == "infer-hang":
                sleep(3600)
            scores[:] = np.nan
        return scores


def _when(text: str) -> Callable[[np.ndarray], bool]:
    """Whether a fault is due at a batch, by the means of its images."""
    if text.startswith(">"):
        return lambda means: bool((means > float(text[1:])).any())
    number, _, file = text.partition("@")
    counts = count(1)
    return lambda _: (_count_in(Path(file)) if file else next(counts)) == int(number or 0)


def _count_in(file: Path) -> int:
    """Count one more: a file's size is what all processes have counted in it."""
    with open(file, "ab", buffering=0) as counter:
        counter.write(b".")
        return counter.tell()
