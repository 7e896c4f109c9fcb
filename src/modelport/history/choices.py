"""First decisions on the images of a run, small enough to be kept in the history, so that two runs can be paired years later."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from ..data.labels import label_key
from ..data.predictions import read_decisions
from ..errors import FormatError

MOST_IMAGES = 200_000  # beyond it only the counts are kept: 8 bytes an image, before compression


@dataclass(frozen=True, slots=True)
class Choices:
    """What one target decided.

    Attributes:
        images: digest of the images' names in their order; equal where two runs can be paired image by image.
        first: class of the first prediction of each image, -1 where there is none. int32.
        labels: its true class, -1 where unknown. int32.
    """

    images: str
    first: np.ndarray
    labels: np.ndarray

    @classmethod
    def read(cls, path: Path, labels: dict[str, int] | None = None) -> Self:
        """From a predictions file, some thousand rows at a time and without their scores.

        Args:
            path: the file.
            labels: by `label_key`; None takes the predictions' own.

        Raises:
            FormatError: it is missing or no predictions file.
        """
        names, first, truth = hashlib.sha256(), [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        for part in read_decisions(path):
            for key in part.keys:
                names.update(key.encode("utf-8", "surrogateescape") + b"\0")
            first.append(part.top[:, 0])
            truth.append(
                part.labels if labels is None else np.array([labels.get(label_key(key), -1) for key in part.keys])
            )
        return cls(names.hexdigest(), np.concatenate(first).astype(np.int32), np.concatenate(truth).astype(np.int32))

    def pack(self) -> bytes:
        """As they are kept: both columns, little-endian, compressed."""
        return zlib.compress(self.first.astype("<i4").tobytes() + self.labels.astype("<i4").tobytes(), 6)

    @classmethod
    def unpack(cls, images: str, data: bytes, where: str) -> Self:
        """From what `pack` made.

        Raises:
            FormatError: it is damaged.
        """
        expander = zlib.decompressobj()
        try:
            raw = expander.decompress(data, 8 * MOST_IMAGES + 1)
        except zlib.error as error:
            raise FormatError(f"{where}: its decisions are damaged: {error}") from error
        if len(raw) % 8 or len(raw) > 8 * MOST_IMAGES or not expander.eof:
            raise FormatError(f"{where}: its decisions are damaged: {len(raw):,} bytes of them")
        first, labels = np.frombuffer(raw, "<i4").reshape(2, -1).astype(np.int32)
        return cls(images, first, labels)
