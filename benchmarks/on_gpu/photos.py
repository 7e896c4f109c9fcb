"""Photo-like images made on the spot: smooth regions, edges and texture; a palette and a layout for each class."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

_FILE = (375, 500)  # height and width of a JPEG, as ImageNet's mostly are
_OCTAVES = (16, 40, 90, 180)  # cells of a texture's noise along a side


class Photos:
    """Draws photos on a device; the same seed draws the same ones there."""

    def __init__(self, device: str, size: int | tuple[int, int], classes: int, seed: int = 0):
        self._device, self._classes = device, classes
        self._height, self._width = (size, size) if isinstance(size, int) else size
        fixed = torch.Generator(device).manual_seed(7)  # the classes are the same whatever is drawn
        self._layout = torch.randn(classes, 3, 6, 6, generator=fixed, device=device)
        self._layout += torch.randn(
            classes, 3, 1, 1, generator=fixed, device=device
        )  # a tint, which a mean over pixels sees
        self._texture = torch.randn(classes, len(_OCTAVES), 3, generator=fixed, device=device) / 2
        self._random = torch.Generator(device).manual_seed(seed)

    def __call__(self, count: int) -> tuple[Tensor, Tensor]:
        """That many: uint8, count x height x width x 3, and the class of each."""
        classes = torch.randint(self._classes, (count,), generator=self._random, device=self._device)
        image = self._grown(self._layout[classes] + 0.08 * self._noise(count, 3, 6, 6))
        regions = self._grown(self._noise(count, 1, 5, 5)) > 0.4  # their borders are edges
        image = torch.where(regions, image + self._noise(count, 3, 1, 1) * 0.2, image)
        texture = self._texture[classes]
        for octave, side in enumerate(_OCTAVES):
            image = image + texture[:, octave, :, None, None] * self._grown(self._noise(count, 1, side, side))
        light = 1 + 0.08 * self._noise(count, 1, 1, 1)
        pixels = (image.mul(0.22).add(0.5).mul(light) * 255).clamp(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous(), classes

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random, device=self._device)

    def _grown(self, coarse: Tensor) -> Tensor:
        return interpolate(coarse, (self._height, self._width), mode="bilinear", align_corners=False)


def jpegs(device: str, classes: int, count: int, *, seed: int = 0) -> list[bytes]:
    """As many JPEG files of 500 x 375 pixels, quality 90."""
    pixels, _ = Photos(device, _FILE, classes, seed)(count)
    return [_encoded(image) for image in pixels.cpu().numpy()]


def _encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
