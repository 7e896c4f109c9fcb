"""The images that both stages run on, as pixels and as the network's input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.decode import Decoder
from ..data.source import RAW_SUFFIX, Sample, Source, open_source
from ..errors import DataError
from ..spec import Preprocess


@dataclass(frozen=True, slots=True)
class Batch:
    """Some images.

    Attributes:
        floats: N x channels x height x width, normalised.
        pixels: uint8, N x height x width x channels, in RGB order; None where the images are stored as floats.
    """

    floats: np.ndarray
    pixels: np.ndarray | None

    def parts(self, size: int) -> Iterator[Batch]:
        """The same images in batches of `size`, which divides their number."""
        for start in range(0, len(self.floats), size):
            part = slice(start, start + size)
            yield Batch(self.floats[part], None if self.pixels is None else self.pixels[part])


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """A whole number of batches, held in memory.

    Attributes:
        batches: all of the same size.
        count: how many images there are.
        source: where they come from; None for noise.
    """

    batches: tuple[Batch, ...]
    count: int
    source: str | None


def load_images(images: Source | Path | str | None, preprocess: Preprocess, *, limit: int, batch: int) -> Images:
    """Decode the first images; noise where there are none.

    Args:
        images: a planned source, folder, list or image; None makes pixels of noise, the same every time.
        preprocess: what the network takes.
        limit: at most so many, rounded down to whole batches; fewer than a batch are repeated until it is full.
        batch: size of a batch.

    Raises:
        DataError: there are none, or one cannot be decoded.
    """
    decoder = Decoder(preprocess)
    if images is None:
        loaded, where = [_noise(decoder, seed) for seed in range(_whole(limit, batch))], None
    else:
        source = images if isinstance(images, Source) else open_source(images)
        chosen = source.samples[: _whole(min(limit, len(source)), batch)]
        loaded, where = [_decode(decoder, sample) for sample in chosen], source.where
    filled = [loaded[place % len(loaded)] for place in range(max(len(loaded), batch))]
    return Images(batches=_stack(filled, batch), count=len(loaded), source=where)


def _whole(count: int, batch: int) -> int:
    return count - count % batch if count >= batch else count


def _noise(decoder: Decoder, seed: int) -> Batch:
    channels, height, width = decoder.shape
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return _normalised(decoder, pixels)


def _decode(decoder: Decoder, sample: Sample) -> Batch:
    try:
        data = sample.read()
        if sample.suffix == RAW_SUFFIX:
            floats = np.empty(decoder.shape, np.float32)
            decoder(sample, data, floats)
            return Batch(floats, None)
        return _normalised(decoder, decoder.pixels_of(sample, data))
    except DataError as error:
        raise DataError(f"{sample.origin}: {error}; take it out of the images") from error


def _normalised(decoder: Decoder, pixels: np.ndarray) -> Batch:
    channels, height, width = decoder.shape
    floats = np.empty(decoder.shape, np.float32)
    decoder.normalize(pixels, floats)
    return Batch(floats, np.asarray(pixels).reshape(height, width, channels))


def _stack(loaded: list[Batch], size: int) -> tuple[Batch, ...]:
    groups = [loaded[start : start + size] for start in range(0, len(loaded), size)]
    return tuple(
        Batch(
            np.stack([image.floats for image in group]),
            None if any(image.pixels is None for image in group) else np.stack([image.pixels for image in group]),
        )
        for group in groups
    )
