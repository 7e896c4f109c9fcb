"""Proof that a rewritten graph computes what the original does: both run as they are written, in float32, on the same inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..accuracy import measure_parity
from ..data.decode import Decoder
from ..data.source import Source, open_source
from ..engines import load
from ..errors import DataError, InferenceError
from ..graph import ClassifierGraph
from ..results import Parity
from ..spec import Precision, Preprocess

TOLERANCE = 1e-5  # of the largest score; float32 rounds to 6e-8, which some fifty layers add up to about 1e-6
NOISE_SAMPLES = 8
MOST_IMAGES = 16
_ENGINE = "onnxruntime"
_SIZES = (3, 1)  # batches where the batch is dynamic: it must stay so


class Equality:
    """The original's scores on a set of inputs, to hold those of its rewritten versions against.

    ONNX Runtime runs both operator by operator, with all optimisations off: it must not mend or hide what a pass did.
    """

    def __init__(self, graph: ClassifierGraph, samples: np.ndarray, tolerance: float = TOLERANCE) -> None:
        """Run the original.

        Args:
            graph: the original.
            samples: float32, N x channels x height x width; see `samples_for`.
            tolerance: largest difference of a score, as a share of the original's largest score.

        Raises:
            EngineUnavailableError: ONNX Runtime is not installed.
            CompileError, InferenceError: it cannot run the original, or its scores are not finite.
        """
        self._graph, self._samples, self._tolerance = graph, samples, tolerance
        self._engine = load(_ENGINE)
        self._scores = self._run(graph.path)
        if not np.isfinite(self._scores).all():
            raise InferenceError(
                f"{graph.path}: its own scores are not finite on these inputs, so no rewrite can be held against them"
            )

    def prove(self, rewritten: Path) -> Parity:
        """Scores of a rewritten file against the original's; `passed` says whether they are equal within the tolerance.

        Raises:
            CompileError, InferenceError: ONNX Runtime cannot run it.
        """
        return measure_parity(
            self._scores, self._run(rewritten), against=self._graph.path.name, tolerance=self._tolerance
        )

    def _run(self, path: Path) -> np.ndarray:
        taps = self._engine.tap(path, Precision.F32, plain=True)
        name = self._graph.input_name
        return np.concatenate(
            [taps({name: batch})[self._graph.output_name] for batch in _batches(self._samples, self._graph.batch_size)]
        )


def samples_for(
    size: tuple[int, int, int], images: Source | Path | str | None = None, preprocess: Preprocess | None = None
) -> np.ndarray:
    """Inputs to prove with: noise, every other sample smooth as images are, and real images where they are given.

    Args:
        size: channels, height, width.
        images: up to 16 of them are used, evenly over the source.
        preprocess: how they are prepared.

    Returns:
        Float32, N x channels x height x width; the noise first, and the same every time.

    Raises:
        DataError: no images there, or one cannot be decoded.
    """
    noise = np.random.default_rng(0).standard_normal((NOISE_SAMPLES, *size), dtype=np.float32)
    smooth = noise[::2].cumsum(axis=2).cumsum(axis=3)
    noise[::2] = 2 * smooth / np.abs(smooth).max(axis=(1, 2, 3), keepdims=True)
    if images is None:
        return noise
    assert preprocess is not None
    source = images if isinstance(images, Source) else open_source(images)
    count = min(MOST_IMAGES, len(source))
    chosen = [source.samples[number * len(source) // count] for number in range(count)]
    decoder, real = Decoder(preprocess), np.empty((count, *size), np.float32)
    for row, sample in enumerate(chosen):
        try:
            decoder(sample, sample.read(), real[row])
        except DataError as error:
            raise DataError(f"{sample.origin}: cannot be used for the proof: {error}") from error
    return np.concatenate([noise, real])


def _batches(samples: np.ndarray, fixed: int | None) -> Iterator[np.ndarray]:
    """Batches of the fixed size, the last filled up with the first samples; or of 3 and of 1 in turn."""
    start = turn = 0
    while start < len(samples):
        size = fixed or _SIZES[turn % len(_SIZES)]
        batch = samples[start : start + size]
        if fixed and len(batch) < fixed:
            batch = np.concatenate([batch, np.resize(samples, (fixed - len(batch), *samples.shape[1:]))])
        yield batch
        start, turn = start + size, turn + 1
