"""Preparing a photograph on one thread: torchvision's transforms, our exact path, our fast path."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from interleave import Figure, interleave
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import transforms

from modelport.data.decode import Decoder
from modelport.data.fast import FastDecoder
from modelport.data.source import Sample
from modelport.spec import Preprocess

PREPROCESS = Preprocess(input_size=(3, 224, 224), crop_pct=0.875)


def photographs(count: int = 16) -> list[bytes]:
    """JPEG files of 500 x 375 pixels, cut from scikit-learn's two sample photographs, quality 90."""
    rng, files = np.random.default_rng(0), []
    for number in range(count):
        photo = load_sample_image(("china.jpg", "flower.jpg")[number % 2])
        top, left = rng.integers(0, photo.shape[0] - 375 + 1), rng.integers(0, photo.shape[1] - 500 + 1)
        buffer = io.BytesIO()
        Image.fromarray(photo[top : top + 375, left : left + 500]).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def measure(*, turns: int, seconds: float) -> list[Figure]:
    """To uint8 pixels of the network's size."""
    files = photographs()
    chain = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    exact, fast, sample = Decoder(PREPROCESS), FastDecoder(PREPROCESS), Sample("photo.jpg", Path("photo.jpg"))
    pixels = np.empty((224, 224, 3), np.uint8)

    def ours(decoder: Callable[..., None]) -> Callable[[], int]:
        def work() -> int:
            for data in files:
                decoder(sample, data, pixels)
            return len(files)

        return work

    def theirs() -> int:
        for data in files:
            chain(Image.open(io.BytesIO(data)).convert("RGB"))
        return len(files)

    contestants = {"torchvision": theirs, "modelport exact": ours(exact), "modelport fast": ours(fast)}
    return interleave(contestants, turns=turns, seconds=seconds)
