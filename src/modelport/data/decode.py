"""From a file's bytes to the network's input: the reference path, equal to torchvision's transforms on Pillow images.

Resize (shorter side, or squash), CenterCrop, ToTensor and Normalize as timm's evaluation transform chains them. The
arithmetic is done once per channel for each of the 256 pixel values, in float32 and in torchvision's order, so the
result does not differ from torchvision's.
"""

from __future__ import annotations

import io
import warnings
from threading import Lock

import numpy as np
from PIL import Image

from .. import limits
from ..errors import DataError, InferenceError
from ..printable import printable
from ..spec import ColorOrder, Preprocess
from .resize import fit_exact
from .source import PIXELS_SUFFIX, RAW_SUFFIX, Sample

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # MPO files open as JPEG
_SCAN = b"\xff\xda"  # JPEG's marker of a scan; compressed pixels never hold it
Image.init()  # registers every format now, not lazily from several threads at once


class Decoder:
    """Prepares images for one Preprocess. Safe to call from several threads."""

    _fit = staticmethod(fit_exact)
    on_cores = True  # False where something else decodes, and a thread of ours waits for it

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self.shape = preprocess.input_size
        self._mode = "RGB" if self.shape[0] == 3 else "L"
        pixels = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = np.float32(preprocess.mean), np.float32(preprocess.std)
        self._tables = [(pixels - m) / s for m, s in zip(mean, std, strict=True)]
        order = (2, 1, 0) if preprocess.color_order is ColorOrder.BGR and self.shape[0] == 3 else range(self.shape[0])
        self._channels = tuple(order)

    def __call__(self, sample: Sample, data: bytes, out: np.ndarray) -> None:
        """Decode `data`, the bytes of the sample's file, into `out`.

        Args:
            sample: whose file it is.
            data: its bytes.
            out: float32, channels x height x width; or uint8, height x width x channels, for a network that normalises
                and orders the channels itself: resized and cropped pixels, in RGB order.

        Raises:
            DataError: the bytes are no image, a truncated one, or one too large to be decoded safely.
        """
        if sample.suffix == RAW_SUFFIX:
            self._raw(data, out)
        else:
            self.place(self.pixels_of(sample, data), out)

    def pixels_of(self, sample: Sample, data: bytes) -> np.ndarray:
        """The sample's pixels as `pixels` gives them; of a sample that is pixels already, these."""
        if not sample.suffix.startswith(PIXELS_SUFFIX):
            return self.pixels(data)
        require_pixels_for(sample, self.preprocess)
        channels, height, width = self.shape
        if len(data) != channels * height * width:
            raise DataError(
                f"holds {len(data)} bytes; {height}x{width}x{channels} pixels have {channels * height * width}"
            )
        return np.frombuffer(data, np.uint8).reshape((height, width, channels) if channels > 1 else (height, width))

    def pixels(self, data: bytes) -> np.ndarray:
        """Decode, resize and crop to uint8, height x width (x 3 for colour), in RGB order."""
        with _quiet_pillow:
            image = open_image(data)
            try:
                image = self._decode(image, data)
            except InferenceError:  # of a GPU that decodes, and not of the image
                raise
            except Exception as error:  # Pillow's plugins raise whatever their code meets in a damaged file
                raise DataError(_reason(error, data)) from error
        return np.asarray(self._fit(image, self.preprocess))

    def _decode(self, image: Image.Image, data: bytes) -> Image.Image:
        """Read an opened image's pixels, as grey or RGB."""
        image.load()
        return image if image.mode == self._mode else image.convert(self._mode)

    def place(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Put pixels into a buffer as the call describes it: copied to uint8, or normalised to float32."""
        if out.dtype == np.uint8:
            out[:] = pixels.reshape(out.shape)
        else:
            self.normalize(pixels, out)

    def normalize(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Scale to 0…1, subtract the mean, divide by the standard deviation, and lay the channels out."""
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        for index, channel in enumerate(self._channels):
            np.take(self._tables[index], pixels[:, :, channel], out=out[index], mode="clip")

    def _raw(self, data: bytes, out: np.ndarray) -> None:
        if out.dtype != np.float32:
            raise DataError(f"is preprocessed float32 data, and this model takes {out.dtype} pixels: give it images")
        if len(data) != out.nbytes:
            shape = "x".join(map(str, self.shape))
            raise DataError(f"holds {len(data)} bytes; preprocessed float32 {shape} has {out.nbytes}")
        out[:] = np.frombuffer(data, dtype="<f4").reshape(self.shape)


class _QuietPillow:
    """Pillow's warnings (corrupt EXIF, palette transparency, large images) off while any thread decodes.

    What matters of them is checked and counted here; timm's loader takes such images too. `warnings.catch_warnings` alone
    restores the wrong filters when threads leave it in another order than they entered.
    """

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_quiet_pillow = _QuietPillow()


def require_pixels_for(sample: Sample, preprocess: Preprocess) -> None:
    """Raise DataError where a sample is pixels that were resized and cropped in another way than this."""
    made = sample.suffix.removeprefix(PIXELS_SUFFIX)
    if sample.suffix.startswith(PIXELS_SUFFIX) and made != preprocess.pixels_digest:
        size = "x".join(map(str, preprocess.input_size))
        raise DataError(
            f"{sample.origin}: these pixels were made with another preprocessing (digest {made}) than the model's ({size}, "
            f"{preprocess.interpolation}, crop {preprocess.crop_pct:g}, digest {preprocess.pixels_digest}); pack with the model's"
        )


def open_image(data: bytes) -> Image.Image:
    """Open an image of an accepted format; its pixels are not decoded yet.

    Raises:
        DataError: no such image, or one so large that decoding it could exhaust memory (Pillow's limit, taken as an error).
    """
    if not data:
        raise DataError("the file is empty (0 bytes)")
    try:
        # Between its limit and twice that Pillow only warns; here both are errors.
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Exception as error:  # Pillow's plugins raise whatever their code meets in a damaged file
        raise DataError(_reason(error, data)) from error
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise DataError(
            f"{width}x{height} pixels are over the safe limit of {Image.MAX_IMAGE_PIXELS} (a decompression bomb?)"
        )
    if image.format in ("JPEG", "MPO") and (scans := data.count(_SCAN)) > limits.JPEG_SCANS:
        raise DataError(f"has {scans} scans, more than {limits.JPEG_SCANS} (made to take for ever?)")
    return image


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"is not an image that Pillow can read (begins with {data[:12]!r})"
    if isinstance(error, Image.DecompressionBombError):
        return f"is too large to be decoded safely: {error}"
    return f"is damaged: {printable(str(error)) or type(error).__name__}"
