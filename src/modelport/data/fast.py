"""The fast path: the same pixels decoded, only those that the crop keeps resized. How far it is from the exact path is measured."""

from __future__ import annotations

import logging

from PIL import Image

from ..spec import Preprocess
from .decode import Decoder
from .jpeg import decode_jpeg, pays, simplejpeg
from .resize import fit_fused

_log = logging.getLogger("modelport")


class FastDecoder(Decoder):
    """A Decoder whose crop is fused into the resize: bilinear pixels differ by one step of 255 at most.

    JPEG is decoded by simplejpeg where it is installed and faster than Pillow, to the same pixels.
    """

    _fit = staticmethod(fit_fused)

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__(preprocess)
        self._helped = pays()
        if self._helped and simplejpeg() is None:
            _log.info(
                "fast preprocessing: Pillow decodes JPEG here, and simplejpeg would be faster: pip install 'modelport[fast]'"
            )

    def _decode(self, image: Image.Image, data: bytes) -> Image.Image:
        found = decode_jpeg(image, data, self._mode) if self._helped else None
        return super()._decode(image, data) if found is None else found
