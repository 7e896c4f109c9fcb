"""Which decoder a run asks for: how its images are prepared, and where its JPEG files are decoded."""

from __future__ import annotations

from typing import Literal

from ..spec import Preprocess
from .decode import Decoder
from .fast import FastDecoder

Preprocessing = Literal["exact", "fast"]
Decoding = Literal["cpu", "nvjpeg"]


def make_decoder(preprocess: Preprocess, how: Preprocessing, decoding: Decoding = "cpu") -> Decoder:
    """The decoder for exact or for fast preprocessing, with JPEG decoded here or on a GPU.

    Raises:
        EngineUnavailableError: there is no GPU to decode on.
    """
    if decoding == "nvjpeg":
        from .gpu_jpeg import FastGpuDecoder, GpuDecoder  # which wants PyTorch

        return FastGpuDecoder(preprocess) if how == "fast" else GpuDecoder(preprocess)
    return FastDecoder(preprocess) if how == "fast" else Decoder(preprocess)
