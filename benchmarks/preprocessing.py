"""Preparing a photograph on one thread: torchvision's transforms, our exact path, our fast path."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from interleave import Figure, interleave
from photographs import photographs
from PIL import Image
from torchvision import transforms

from modelport.data.decode import Decoder
from modelport.data.fast import FastDecoder
from modelport.data.source import Sample
from modelport.spec import Preprocess

PREPROCESS = Preprocess(input_size=(3, 224, 224), crop_pct=0.875)


def chain(*last: Callable[..., object]) -> transforms.Compose:
    """torchvision's transforms for these weights, up to what comes `last`."""
    return transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *last])


def to_float(preprocess: Preprocess) -> list[Callable[..., object]]:
    """What a network in float32 is fed with, as torchvision's own recipes and timm's do it."""
    return [transforms.ToTensor(), transforms.Normalize(preprocess.mean, preprocess.std)]


def measure(*, turns: int, seconds: float) -> list[Figure]:
    """To uint8 pixels of the network's size, which is what a model compiled with uint8 input takes, and to float32."""
    files, sample = photographs(), Sample("photo.jpg", Path("photo.jpg"))
    exact, fast = Decoder(PREPROCESS), FastDecoder(PREPROCESS)
    pixels, values = np.empty((224, 224, 3), np.uint8), np.empty((3, 224, 224), np.float32)

    def each(work: Callable[[bytes], object]) -> Callable[[], int]:
        def once() -> int:
            for data in files:
                work(data)
            return len(files)

        return once

    def torchvision(prepare: transforms.Compose) -> Callable[[], int]:
        return each(lambda data: prepare(Image.open(io.BytesIO(data)).convert("RGB")))

    contestants = {
        "torchvision to uint8": torchvision(chain(transforms.PILToTensor())),
        "torchvision to float32": torchvision(chain(*to_float(PREPROCESS))),
        "modelport exact to uint8": each(lambda data: exact(sample, data, pixels)),
        "modelport exact to float32": each(lambda data: exact(sample, data, values)),
        "modelport fast to uint8": each(lambda data: fast(sample, data, pixels)),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # ToTensor and Normalize would spread over all cores
    try:
        return interleave(contestants, turns=turns, seconds=seconds)
    finally:
        torch.set_num_threads(threads)
