"""An image brought to the network's input size: resize and centre crop as torchvision and timm do them."""

from __future__ import annotations

from PIL import Image, ImageOps

from ..errors import DataError
from ..spec import CropMode, Interpolation, Preprocess

_FILTERS = {
    Interpolation.NEAREST: Image.Resampling.NEAREST,
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
    Interpolation.LANCZOS: Image.Resampling.LANCZOS,
}
# A 1 x 30,000 strip resized to a shorter side of 256 would need 5.9 GB; no real photograph comes near this.
MAX_RESIZED_PIXELS = 32_000_000


def fit_exact(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Resize, then crop: every pixel as Pillow's resize and torchvision's CenterCrop make it."""
    size = _resized_size(image, preprocess)
    resized = image if image.size == size else image.resize(size, _FILTERS[preprocess.interpolation])
    return _crop(resized, preprocess.input_size[:0:-1])


def fit_fused(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Resize only what the crop keeps, by Pillow's `box`: close to `fit_exact`, not equal.

    The box holds 32-bit numbers, so that samples move by a millionth of a pixel; and Pillow may resize columns before
    rows where the shapes make that cheaper, and rounds in between. Bilinear differs by one step of 255, bicubic and
    Lanczos by a few.
    """
    size, window = _resized_size(image, preprocess), preprocess.input_size[:0:-1]
    left, top = _offset(size, window)
    if image.size == size or min(left, top) < 0 or preprocess.interpolation is Interpolation.NEAREST:
        return fit_exact(image, preprocess)
    across, down = image.width / size[0], image.height / size[1]
    right, bottom = min((left + window[0]) * across, image.width), min((top + window[1]) * down, image.height)
    return image.resize(window, _FILTERS[preprocess.interpolation], box=(left * across, top * down, right, bottom))


def _resized_size(image: Image.Image, preprocess: Preprocess) -> tuple[int, int]:
    """Width and height before the crop."""
    height, width = preprocess.resize_size
    squash = preprocess.crop_mode is CropMode.SQUASH
    size = (width, height) if squash else _shorter_side(image.size, height, width)
    if size[0] * size[1] > MAX_RESIZED_PIXELS:
        raise DataError(
            f"{image.width}x{image.height} would become {size[0]}x{size[1]} when resized: too long and thin to prepare"
        )
    return size


def _shorter_side(original: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Size in Pillow's order; torchvision's rule for one number, timm's keep-ratio rule for a non-square target."""
    w, h = original
    if height == width:
        return (height, int(height * h / w)) if w <= h else (int(height * w / h), height)
    scale = min(h / height, w / width)
    return round(w / scale), round(h / scale)


def _offset(size: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """Left and top of torchvision's CenterCrop; negative where the image is smaller than the crop."""
    return tuple(round((have - want) / 2) if have >= want else -1 for have, want in zip(size, window, strict=True))


def _crop(image: Image.Image, window: tuple[int, int]) -> Image.Image:
    """torchvision's CenterCrop: rounded offsets; an image smaller than the crop is padded with black."""
    width, height = window
    if image.width < width or image.height < height:
        left, top = max(0, (width - image.width) // 2), max(0, (height - image.height) // 2)
        right, bottom = max(0, (width - image.width + 1) // 2), max(0, (height - image.height + 1) // 2)
        image = ImageOps.expand(image, (left, top, right, bottom))
    left, top = _offset(image.size, window)
    if (left, top, width, height) == (0, 0, *image.size):
        return image
    return image.crop((left, top, left + width, top + height))
