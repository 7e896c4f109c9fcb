"""Pipelines on fake engines: a session whose scores are what a function makes of the batch, and short ways to run one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from modelport.data.decode import Decoder
from modelport.data.source import Source
from modelport.engines.null import NullSession
from modelport.engines.session import Session
from modelport.errors import InferenceError
from modelport.offline import EngineVersion, Manifest, OfflineModel, PrecisionPair, TensorSpec
from modelport.pipeline import Pipeline, PipelineOptions
from modelport.spec import ModelSpec, Precision, Preprocess

CLASSES = 7
PATIENCE = 20  # seconds; only a failing test waits so long
PREPROCESS = Preprocess(input_size=(3, 4, 4), crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
DECODER = Decoder(PREPROCESS)


def tensors(batch_size: int, classes: int = CLASSES) -> tuple[TensorSpec, TensorSpec]:
    return (
        TensorSpec(name="image", dtype="float32", shape=(batch_size, 3, 4, 4), layout="NCHW"),
        TensorSpec(name="class", dtype="float32", shape=(batch_size, classes), layout="NC"),
    )


def null_session(batch_size: int, slots: int = 1, classes: int = CLASSES) -> NullSession:
    """The shipped fake: a score is the image's mean times the class's number."""
    image, scores = tensors(batch_size, classes)
    manifest = Manifest(
        engine=EngineVersion(name="null", version="0"),
        precision=PrecisionPair(requested=Precision.F32, executed=Precision.F32),
        batch_size=batch_size,
        input=image,
        output=scores,
        model=ModelSpec(arch="tiny", num_classes=classes, preprocess=PREPROCESS),
        onnx_sha256="0" * 64,
        host=None,
        files={},
    )
    return NullSession(OfflineModel(path=Path("tiny"), manifest=manifest), slots)


class ScriptedSession(Session):
    """Scores are what a function makes of the batch. Remembers each batch."""

    def __init__(self, batch_size: int, answer: Callable[[np.ndarray], np.ndarray], slots: int = 1) -> None:
        super().__init__("scripted", tensors(batch_size), slots)
        self._answer, self.batches = answer, []

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(batch.copy())
        return self._answer(batch)


def mean_scores(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=(1, 2, 3))[:, None] * np.arange(1, CLASSES + 1, dtype=np.float32)


def fail_from_third(batch: np.ndarray) -> np.ndarray:
    """Fails at the image whose value is 0.3 (see `numbered`)."""
    if batch.max() > 0.25:
        raise InferenceError("the device fell over")
    return mean_scores(batch)


def run(session: Session, source: Source, **options: object) -> tuple[list, Pipeline]:
    pipeline = Pipeline(session, DECODER, PipelineOptions(**options))
    return list(pipeline.run(source)), pipeline


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def workers_alive(before: set[threading.Thread]) -> bool:
    return bool(set(threading.enumerate()) - before)
