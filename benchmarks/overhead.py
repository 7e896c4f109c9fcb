"""What modelport itself costs: prepared uint8 images through the whole pipeline, with an engine that computes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from interleave import Figure, interleave

from modelport.data.decode import Decoder
from modelport.data.source import open_source
from modelport.engines.base import Session
from modelport.offline import TensorSpec
from modelport.pipeline import Pipeline, PipelineOptions
from modelport.spec import Preprocess

PREPROCESS = Preprocess(input_size=(3, 64, 64))
IMAGES, BATCH = 2_000, 32


class NothingSession(Session):
    """Scores are zeros, at once."""

    def __init__(self) -> None:
        image = TensorSpec(name="image", dtype="float32", shape=(BATCH, 3, 64, 64), layout="NCHW")
        super().__init__(
            "nothing", (image, TensorSpec(name="class", dtype="float32", shape=(BATCH, 10), layout="NC")), 1
        )
        self._scores = np.zeros((BATCH, 10), np.float32)

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        return self._scores


def measure(*, turns: int, seconds: float) -> list[Figure]:
    """Prepared files read in a plain loop, and the same through the pipeline with 1 and 2 decoders."""
    with tempfile.TemporaryDirectory() as folder:
        array = np.zeros(PREPROCESS.input_size, np.float32)
        for number in range(IMAGES):
            array.tofile(Path(folder) / f"{number:05d}.bin")
        source, decoder, session = open_source(folder), Decoder(PREPROCESS), NothingSession()
        buffer = np.empty((BATCH, *PREPROCESS.input_size), np.float32)

        def loop() -> int:
            for row, sample in enumerate(source):
                decoder(sample, sample.path.read_bytes(), buffer[row % BATCH])
                if row % BATCH == BATCH - 1:
                    session.infer(buffer)
            return len(source)

        def pipeline(decoders: int) -> int:
            return sum(1 for _ in Pipeline(session, decoder, PipelineOptions(decoders=decoders)).run(source))

        contestants = {
            "plain loop": loop,
            "pipeline, 1 decoder": lambda: pipeline(1),
            "pipeline, 2 decoders": lambda: pipeline(2),
        }
        return interleave(contestants, turns=turns, seconds=seconds)
