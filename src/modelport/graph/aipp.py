"""AIPP: the part of an Ascend offline model that turns uint8 pixels into the network's input, and its arithmetic in NumPy.

Source: "AIPP configuration" in Huawei's ATC manual. The order is channel swap, crop, colour space, mean and variance,
padding; a channel's value becomes `(pixel - mean_chn - min_chn) * var_reci_chn`; the input must be NHWC uint8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ..errors import FormatError
from ..spec import ColorOrder, Preprocess

_WIDTHS, _HEIGHTS = range(2, 4097), range(1, 4097)
_MIN_CHN_MAX, _VAR_RECI_MAX = 255.0, 65504.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Aipp:
    """Static AIPP for images that have been resized and cropped: channel order, mean and standard deviation.

    Attributes:
        input_format: RGB888_U8, or YUV400_U8 for one grey channel.
        width, height: of the image, pixels.
        rbuv_swap: swap the first and the third channel: RGB pixels for a network that was trained on BGR.
        min_chn: subtracted, in units of a pixel (0…255), in the order after the swap. `mean_chn` is a whole number, so it
            stays 0 and `min_chn` carries the mean.
        var_reci_chn: multiplied afterwards: 1 ÷ (standard deviation x 255).
    """

    input_format: str
    width: int
    height: int
    rbuv_swap: bool
    min_chn: tuple[float, ...]
    var_reci_chn: tuple[float, ...]

    @classmethod
    def of(cls, preprocess: Preprocess) -> Self:
        """AIPP that does what `preprocess` does to the pixels.

        Raises:
            FormatError: AIPP has no such size, mean or standard deviation.
        """
        channels, height, width = preprocess.input_size
        if width not in _WIDTHS or height not in _HEIGHTS:
            raise FormatError(
                f"AIPP takes images of 2…4096 x 1…4096 pixels (width x height), not {width}x{height}; compile without --aipp"
            )
        made = cls(
            input_format="RGB888_U8" if channels == 3 else "YUV400_U8",
            width=width,
            height=height,
            rbuv_swap=channels == 3 and preprocess.color_order is ColorOrder.BGR,
            min_chn=tuple(mean * 255 for mean in preprocess.mean),
            var_reci_chn=tuple(1 / (std * 255) for std in preprocess.std),
        )
        if not all(0 <= value <= _MIN_CHN_MAX for value in made.min_chn):
            raise FormatError(f"AIPP takes a mean of 0…1, not {preprocess.mean}; compile without --aipp")
        if not all(value <= _VAR_RECI_MAX for value in made.var_reci_chn):
            raise FormatError(
                f"AIPP takes no standard deviation as small as in {preprocess.std}; compile without --aipp"
            )
        return made

    def config(self) -> str:
        """The file for atc's `--insert_op_conf`."""
        lines = [
            "aipp_mode: static",
            f"input_format: {self.input_format}",
            f"src_image_size_w: {self.width}",
            f"src_image_size_h: {self.height}",
            "crop: false",
            "csc_switch: false",
            f"rbuv_swap_switch: {str(self.rbuv_swap).lower()}",
            *(f"mean_chn_{channel}: 0" for channel in range(len(self.min_chn))),
            *(f"min_chn_{channel}: {value:.15g}" for channel, value in enumerate(self.min_chn)),
            *(f"var_reci_chn_{channel}: {value:.15g}" for channel, value in enumerate(self.var_reci_chn)),
        ]
        return "aipp_op {\n" + "".join(f"    {line}\n" for line in lines) + "}\n"

    def apply(self, pixels: np.ndarray, dtype: type[np.floating] = np.float32) -> np.ndarray:
        """What AIPP computes, by its documentation; it was never compared with a device.

        Args:
            pixels: uint8, N x height x width x channels, colour in RGB order.
            dtype: arithmetic; the manual gives the constants as float16, float32 shows the formula without its rounding.

        Returns:
            The network's input, N x channels x height x width, of this dtype.
        """
        if self.rbuv_swap:
            pixels = pixels[..., ::-1]
        values = pixels.astype(dtype)
        values = (values - np.asarray(self.min_chn, dtype)) * np.asarray(self.var_reci_chn, dtype)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
