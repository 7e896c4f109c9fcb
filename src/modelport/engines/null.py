"""An engine that computes almost nothing, for tests and for measuring modelport's own overhead.

A score is the image's mean value times the class's number, so results are predictable and batches cannot be mixed up
unnoticed. The mean is of what the session is given: normalised values, or pixels of 0…255 where the input is uint8.
Faults are injected through the environment variable `MODELPORT_NULL_FAULT`:

    compile-raise     the compiler raises
    compile-signal    the compiling process dies by SIGSEGV
    compile-hang      compiling takes an hour
    infer-raise:N     the N-th batch raises (from 1)
    infer-nan:N       the N-th batch answers NaN
    infer-signal:N    the process dies by SIGSEGV at the N-th batch
    infer-hang:N      the N-th batch takes an hour
    infer-slow:MS     every batch takes that many milliseconds
"""

from __future__ import annotations

import os
import signal
from itertools import count
from pathlib import Path
from time import sleep

import numpy as np

from .. import __version__
from ..errors import CompileError, InferenceError
from ..graph import ClassifierGraph
from ..offline import OfflineModel
from ..spec import ModelSpec, Precision
from .base import Compiled, CompileOptions, Engine, Session, SessionOptions

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
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "compile-hang":
            sleep(3600)
        (directory / _FILE).write_text(f"{graph.sha256}\n")
        return Compiled(files=(_FILE,), executed=Precision.F32)

    def _open(self, model: OfflineModel, options: SessionOptions) -> Session:
        return NullSession(model, options.streams)


class NullSession(Session):
    """Scores are the image's mean times 1…classes."""

    def __init__(self, model: OfflineModel, slots: int) -> None:
        super().__init__(str(model.path), model.tensors, slots)
        self._weights = np.arange(1, model.manifest.model.num_classes + 1, dtype=np.float32)
        self._fault, _, number = os.environ.get(FAULT, "").partition(":")
        self._faulty = int(number or 0)
        self._count = count(1)

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        scores = batch.mean(axis=(1, 2, 3)).astype(np.float32)[:, None] * self._weights
        if self._fault == "infer-slow":
            sleep(self._faulty / 1000)
        elif next(self._count) == self._faulty:
            if self._fault == "infer-raise":
                raise InferenceError(f"{self.where}: the null engine failed: {FAULT} asked for it")
            if self._fault == "infer-signal":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self._fault == "infer-hang":
                sleep(3600)
            scores[:] = np.nan
        return scores
