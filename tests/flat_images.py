"""Many small images, quickly."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
from PIL import Image


def write_images(folder: Path, count: int) -> Path:
    """A folder of that many images of the tiny classifier's size, each of one colour."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    _, height, width = models.SIZE
    for number in range(count):
        pixels = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png", compress_level=0)
    return folder
