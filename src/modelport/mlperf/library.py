"""The images that LoadGen asks for, prepared and in memory: loaded outside the timed part, as its rules have it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ..data.decode import Decoder
from ..data.source import Sample, Source
from ..errors import DataError
from ..host import usable_cores
from ..offline import TensorSpec
from ..spec import Preprocess


def identity(source: Source) -> str:
    """Changes when the images do, whatever their labels: two processes that list the same place compare it."""
    return replace(source, samples=tuple(replace(sample, label=None) for sample in source)).digest()


class SampleLibrary:
    """A source's images by their place; those that LoadGen has loaded are there, the others are not."""

    def __init__(
        self, source: Source, preprocess: Preprocess, image: TensorSpec, progress: Callable[[int, int], None]
    ) -> None:
        """`image` is the model's input; `progress` is called as images are loaded."""
        self._source, self._decoder, self._progress = source, Decoder(preprocess), progress
        self._shape, self._dtype = image.shape[1:], np.dtype(image.dtype)
        self._images = np.empty((0, *self._shape), self._dtype)
        self._rows: dict[int, int] = {}

    def __getitem__(self, place: int) -> np.ndarray:
        """A loaded image as the model takes it."""
        return self._images[self._rows[place]]

    def load(self, places: list[int]) -> None:
        """Read and prepare these images, on all cores.

        Raises:
            DataError: one cannot be read. LoadGen knows no image that fails.
        """
        wanted = list(dict.fromkeys(places))
        self._images = np.zeros((len(wanted), *self._shape), self._dtype)
        self._rows = {place: row for row, place in enumerate(wanted)}
        with ThreadPoolExecutor(usable_cores()) as pool:
            samples = (self._source.samples[place] for place in wanted)
            for done, _ in enumerate(pool.map(self._prepare, samples, self._images), start=1):
                self._progress(done, len(wanted))

    def unload(self, places: list[int]) -> None:
        """Forget what is loaded; LoadGen unloads a set before it loads the next."""
        self._images, self._rows = np.empty((0, *self._shape), self._dtype), {}

    def _prepare(self, sample: Sample, out: np.ndarray) -> None:
        try:
            self._decoder(sample, sample.read(), out)
        except DataError as error:
            raise DataError(
                f"{sample.origin}: {error}; LoadGen knows no image that fails: mend it, or leave it out"
            ) from error
