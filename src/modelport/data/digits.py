"""The demo's data: scikit-learn's handwritten digits (UCI, 1,797 real 8 x 8 scans) as an ImageNet-like image folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .. import files
from ..errors import DataError
from ..spec import Preprocess

SIZE = 64  # pixels; the scans are enlarged eightfold
HELD_OUT = 360
PREPROCESS = Preprocess(input_size=(3, SIZE, SIZE), crop_pct=1.0)


def write_digits(directory: Path) -> tuple[Path, Path]:
    """Write `train/` and `val/` as flat folders of PNG, each with its label file. An existing complete set is kept.

    The split is fixed (360 images of a seeded shuffle are held out), so training, calibration and evaluation images
    stay disjoint.

    Returns:
        The folder of training images and that of evaluation images.
    """
    done = directory / "complete"
    train, held = directory / "train", directory / "val"
    if done.exists():
        return train, held
    images, labels = load_digits()
    with files.reporting(done):
        _write(directory, images, labels)
    files.write_text(done, "")
    return train, held


def _write(directory: Path, images: np.ndarray, labels: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(images))
    for name, chosen in (("val", order[:HELD_OUT]), ("train", order[HELD_OUT:])):
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for number, index in enumerate(sorted(chosen), start=1):
            file = f"DIGITS_{name}_{number:08d}.png"
            Image.fromarray(images[index]).save(folder / file)
            lines.append(f"{file} {labels[index]}\n")
        files.write_text(directory / f"{name}_label.txt", "".join(lines))


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """All scans as uint8 grey, N x 64 x 64, and their digits."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise DataError("the digits data set comes with scikit-learn: pip install 'modelport[demo]'") from error
    bunch = load()
    small = (bunch.images * (255 / 16)).round().astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for image in small]
    return np.stack(large), bunch.target
