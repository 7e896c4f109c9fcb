"""What LoadGen keeps of an answer: 40 bytes, the five likeliest classes and their scores, little-endian.

The first four bytes are the likeliest class as int32, so that MLCommons' own accuracy script reads the log with
`--dtype int32`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..data.predictions import TOP, Prediction, top_classes
from ..data.source import Source
from ..errors import FormatError
from ..schema import parse_json, read_text

ANSWER = np.dtype([("top", "<i4", (TOP,)), ("scores", "<f4", (TOP,))])
_NOT_FINITE = "the model answered with scores that are not finite (NaN or infinity)"
_NOTHING = np.empty(0, np.int32)


def encode(scores: np.ndarray) -> np.ndarray:
    """Answers to a batch, N of `ANSWER`; classes are -1 beyond the model's, and where a score is not finite.

    Args:
        scores: N x classes.
    """
    answers = np.zeros(len(scores), ANSWER)
    answers["top"] = -1
    finite = np.isfinite(scores).all(axis=1)
    top = top_classes(np.where(finite[:, None], scores, 0))
    width = top.shape[1]
    answers["top"][finite, :width] = top[finite]
    answers["scores"][:, :width] = np.take_along_axis(scores, top, axis=1)
    return answers


def read_answers(path: Path, source: Source) -> Iterator[Prediction]:
    """The predictions in LoadGen's accuracy log, in the source's order. An image that was asked twice is told once.

    Raises:
        FormatError: the log is damaged, or an image is not in it.
    """
    entries = parse_json(read_text(path), str(path))
    found: dict[int, bytes] = {}
    try:
        for entry in entries:
            found.setdefault(entry["qsl_idx"], bytes.fromhex(entry["data"]))
        wrong = next((place for place, data in found.items() if len(data) != ANSWER.itemsize), None)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: is not LoadGen's accuracy log: {type(error).__name__}: {error}") from error
    if wrong is not None:
        raise FormatError(
            f"{path}: the answer to image {wrong} has {len(found[wrong])} bytes, expected {ANSWER.itemsize}"
        )
    if missing := [sample.key for place, sample in enumerate(source) if place not in found]:
        raise FormatError(
            f"{path}: holds no answer to {len(missing):,} of {len(source):,} images (first: {missing[0]})"
        )
    for place, sample in enumerate(source):
        answer = np.frombuffer(found[place], ANSWER)[0]
        known = answer["top"] >= 0
        if known.any():
            yield Prediction(sample, answer["top"][known], answer["scores"][known], None)
        else:
            yield Prediction(sample, _NOTHING, _NOTHING, None, _NOT_FINITE)
