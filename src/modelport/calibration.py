"""What a model was calibrated with, so that the same images are never used to judge it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal

from .errors import DataError
from .origin import Origin, read_bytes
from .schema import Record

CALIBRATION_FILE = "calibration.json"  # in an offline model
_SHOWN = 16  # hex digits of an image's digest that are kept


class Calibration(Record):
    """How a model was quantised.

    Attributes:
        tool: which quantiser, and its version.
        preset: mixed (symmetric weights, asymmetric activations) or performance (all symmetric).
        images: how many images the activations' ranges were taken from.
        control_images: how many labelled images the accuracy was controlled on; 0 without a largest drop.
        max_drop: the largest accepted drop of top-1 on the control images, in points.
        drop: the drop measured there, in points.
        source: where the images came from.
        digest: sha256 over the sorted sha256 digests of all these images' files.
        onnx_sha256: the ONNX file that was quantised.
        keep_float: operators that were left in floating point on request.
    """

    tool: str
    preset: Literal["mixed", "performance"]
    images: int
    control_images: int = 0
    max_drop: float | None = None
    drop: float | None = None
    source: str
    digest: str
    onnx_sha256: str
    keep_float: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """In a line, for reports."""
        drop = f", drop on {self.control_images} control images {self.drop:g} points" if self.drop is not None else ""
        return f"{self.tool}, preset {self.preset}, {self.images} images of {self.source} (digest {self.digest[:12]}){drop}"


class ImageContent(Record):
    """An image file's size in bytes, and the first 16 hex digits of its sha256."""

    bytes: int
    sha256: str


class CalibrationRecord(Record):
    """`calibration.json`, and a quantised ONNX file's metadata: the calibration and every image that was used for it."""

    format: Literal["modelport.calibration"] = "modelport.calibration"
    format_version: Literal[1] = 1
    calibration: Calibration
    seen: tuple[ImageContent, ...]

    def overlap(self, images: Mapping[str, Origin]) -> list[str]:
        """Which of the images (name: place) have the content of one that was used to calibrate. Names do not matter."""
        return overlap(self.seen, images)


def contents(origins: Iterable[Origin]) -> tuple[tuple[ImageContent, ...], str]:
    """The contents of image files, and one digest over all of them, which does not depend on their order or names.

    Raises:
        DataError: a file cannot be read.
    """
    digests, seen = [], []
    for origin in origins:
        try:
            data = read_bytes(origin)
        except DataError as error:
            raise DataError(f"{origin}: {error}") from error
        digests.append(hashlib.sha256(data).hexdigest())
        seen.append(ImageContent(bytes=len(data), sha256=digests[-1][:_SHOWN]))
    return tuple(seen), hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def overlap(seen: Iterable[ImageContent], images: Mapping[str, Origin]) -> list[str]:
    """Which of the images (name: place) have a content that was seen. Those of a size that was not seen are not read."""
    known = {(content.bytes, content.sha256) for content in seen}
    sizes = {size for size, _ in known}
    found = []
    for name, origin in images.items():
        try:
            size = origin.stat().st_size
            if size is not None and size not in sizes:
                continue
            data = read_bytes(origin)
            if (len(data), hashlib.sha256(data).hexdigest()[:_SHOWN]) in known:
                found.append(name)
        except (OSError, DataError):
            pass  # reading it for its scores will say so
    return found


def refuse_overlap(found: list[str], where: str) -> None:
    """Raise DataError where evaluation images were used to calibrate."""
    if found:
        raise DataError(
            f"{where}: {len(found)} of the evaluation images {'were' if len(found) > 1 else 'was'} used to calibrate this "
            f"model (first: {found[0]}); evaluate on others, or calibrate with others"
        )
