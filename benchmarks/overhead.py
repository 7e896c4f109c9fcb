"""What modelport itself costs: images through the whole pipeline, with a session that computes nothing; and its memory."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import numpy as np
import psutil
from interleave import Figure, interleave

from modelport.data.decode import Decoder
from modelport.data.source import Source, open_source
from modelport.engines.session import Session
from modelport.offline import TensorSpec
from modelport.pipeline import Pipeline, PipelineOptions
from modelport.results import Target
from modelport.resumable import classify
from modelport.spec import ModelSpec, Precision, Preprocess
from modelport.work import InferOptions, Work

PREPROCESS = Preprocess(input_size=(3, 64, 64))
IMAGES, BATCH, CLASSES = 2_000, 32, 10


class NothingSession(Session):
    """Scores are zeros, at once."""

    def __init__(self) -> None:
        image = TensorSpec(name="image", dtype="float32", shape=(BATCH, 3, 64, 64), layout="NCHW")
        super().__init__(
            "nothing", (image, TensorSpec(name="class", dtype="float32", shape=(BATCH, CLASSES), layout="NC")), 1
        )
        self._scores = np.zeros((BATCH, CLASSES), np.float32)

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        return self._scores


def measure(*, turns: int, seconds: float) -> list[Figure]:
    """Prepared files read in a plain loop, and the same through the pipeline with 1 and 2 decoders."""
    with tempfile.TemporaryDirectory() as folder:
        source, decoder, session = _prepared(Path(folder)), Decoder(PREPROCESS), NothingSession()
        buffer = np.empty((BATCH, *PREPROCESS.input_size), np.float32)

        def loop() -> int:
            for row, sample in enumerate(source):
                decoder(sample, sample.read(), buffer[row % BATCH])
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


def memory(images: int) -> dict[str, float]:
    """Resident size in MB after a tenth of the images and after all, through `infer`'s whole way down to the predictions file."""
    spec = ModelSpec(arch="nothing", num_classes=CLASSES, preprocess=PREPROCESS)
    target = Target(
        engine="nothing", engine_version="", precision=Precision.F32, executed_precision=Precision.F32, batch_size=BATCH
    )
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        source = _prepared(Path(folder) / "images", images)
        for count in (images // 10, images):
            work = Work(target=target, spec=spec, source=source.limited(count), options=InferOptions())
            classify(NothingSession(), work, Path(folder) / f"{count}")
            gc.collect()
            found[f"resident MB after {count:,} images"] = psutil.Process().memory_info().rss / 1e6
    return found


def _prepared(directory: Path, count: int = IMAGES) -> Source:
    directory.mkdir(exist_ok=True)
    data = np.zeros(PREPROCESS.input_size, np.float32).tobytes()
    first = directory / "000000.bin"
    first.write_bytes(data)
    for number in range(1, count):
        (directory / f"{number:06d}.bin").hardlink_to(first)
    return open_source(directory)
