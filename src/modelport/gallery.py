"""Which images the reports show, and small pictures of them. Knows no engine."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .data.decode import Decoder
from .data.labels import label_key
from .data.predictions import Predictions
from .data.source import RAW_SUFFIX, Sample, Source
from .errors import DataError
from .results import Decision, RunResult
from .spec import ColorOrder

SHOWN = 12  # of each kind, of each target
_SIDE = 128  # pixels; twice what the page shows, for screens of high density
_QUALITY = 80
_LOOKED_AT = 64  # images whose scores tell whether they are shares
log = logging.getLogger("modelport")


@dataclass(frozen=True, slots=True)
class _Side:
    """One model's first classes by image, and how sure it was."""

    rows: dict[str, int]
    predictions: Predictions
    shares: bool

    @classmethod
    def of(cls, predictions: Predictions) -> _Side:
        good = [row for row, error in enumerate(predictions.errors) if error is None]
        scores = predictions.scores
        shares = scores is not None and _are_shares(scores[good[:_LOOKED_AT]])
        return cls({label_key(predictions.keys[row]): row for row in good}, predictions, shares)

    def first(self, name: str) -> int:
        return int(self.predictions.top[self.rows[name], 0])

    def confidence(self, name: str) -> float | None:
        """The first class's share of the softmax of the scores."""
        if self.predictions.scores is None:
            return None
        scores = self.predictions.scores[self.rows[name]].astype(np.float64)
        shares = scores if self.shares else np.exp(scores - scores.max())
        return float(shares.max() / shares.sum())


def _are_shares(scores: np.ndarray) -> bool:
    """Whether the network ends in a softmax already: no image's scores are negative, and all sum up to 1."""
    return bool(scores.size and scores.min() >= 0 and np.abs(scores.sum(axis=1) - 1).max() < 1e-3)


def choose(
    predictions: Predictions, labels: dict[str, int], source: Predictions | None
) -> tuple[tuple[Decision, ...], tuple[Decision, ...]]:
    """The images that a report shows of one target.

    Args:
        predictions: the target's.
        labels: classes by name as `label_key` makes it.
        source: what it is held against.

    Returns:
        Decisions that are not the source's, and labelled images that were taken for another class; the surest first, at most
        `SHOWN` of each.
    """
    here, there = _Side.of(predictions), _Side.of(source) if source is not None else None
    changed = [name for name in here.rows if there and name in there.rows and there.first(name) != here.first(name)]
    mistaken = [name for name in here.rows if name in labels and labels[name] != here.first(name)]
    return _surest(changed, here, there, labels), _surest(mistaken, here, there, labels)


def _surest(names: list[str], here: _Side, there: _Side | None, labels: dict[str, int]) -> tuple[Decision, ...]:
    found = []
    for name in sorted(names, key=lambda name: -(here.confidence(name) or 0.0))[:SHOWN]:
        before = there if there is not None and name in there.rows else None
        found.append(
            Decision(
                key=here.predictions.keys[here.rows[name]],
                label=labels.get(name),
                decided=here.first(name),
                confidence=here.confidence(name),
                before=before.first(name) if before else None,
                confidence_before=before.confidence(name) if before else None,
            )
        )
    return tuple(found)


def thumbnails(source: Source, result: RunResult) -> dict[str, bytes]:
    """Small JPEG pictures of the images that a report shows, by key. One that cannot be read any more is left out."""
    wanted = {decision.key for target in result.targets for decision in (*target.changed, *target.mistakes)}
    decoder, found = Decoder(result.preprocess), {}
    for sample in source:
        if sample.key in wanted:
            try:
                found[sample.key] = thumbnail(sample, decoder)
            except DataError as error:
                log.warning("%s: the report has no picture of it: %s", sample.key, error)
    return found


def thumbnail(sample: Sample, decoder: Decoder) -> bytes:
    """A JPEG of what the network sees of a sample. It is drawn anew: nothing of the file's bytes is passed on.

    Raises:
        DataError: it cannot be read, or is no image.
    """
    data = sample.read()
    pixels = _raw_pixels(sample, data, decoder) if sample.suffix == RAW_SUFFIX else decoder.pixels_of(sample, data)
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _raw_pixels(sample: Sample, data: bytes, decoder: Decoder) -> np.ndarray:
    """uint8 pixels of the network's own input: height x width (x 3, in RGB order)."""
    preprocess = decoder.preprocess
    values = np.empty(decoder.shape, np.float32)
    decoder(sample, data, values)
    mean, std = (np.asarray(each, np.float32)[:, None, None] for each in (preprocess.mean, preprocess.std))
    pixels = np.clip(np.nan_to_num(values * std + mean) * 255, 0, 255).round().astype(np.uint8)
    if preprocess.color_order is ColorOrder.BGR:
        pixels = pixels[::-1]
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
