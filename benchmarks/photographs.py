"""JPEG files like those of ImageNet: 500 x 375 pixels, cut from scikit-learn's two sample photographs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image


def photographs(count: int = 16, seed: int = 0) -> list[bytes]:
    """As many different cuts, quality 90."""
    rng, files = np.random.default_rng(seed), []
    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    for number in range(count):
        photo = photos[number % 2]
        top, left = rng.integers(0, photo.shape[0] - 375 + 1), rng.integers(0, photo.shape[1] - 500 + 1)
        buffer = io.BytesIO()
        Image.fromarray(photo[top : top + 375, left : left + 500]).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def folder(directory: Path, count: int, *, different: int = 64, seed: int = 0) -> Path:
    """A folder of `count` files; beyond `different` they repeat."""
    if directory.exists():
        return directory
    directory.mkdir(parents=True)
    cuts = photographs(min(count, different), seed)
    for number in range(count):
        (directory / f"{number:06d}.jpg").write_bytes(cuts[number % len(cuts)])
    return directory
