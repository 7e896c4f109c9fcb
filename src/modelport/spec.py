"""What a model needs, said without naming any engine: its preprocessing, its identity, its precision."""

from __future__ import annotations

import hashlib
import json
import math
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from . import limits
from .errors import FormatError
from .schema import Record

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_Side = Annotated[int, Field(ge=1, le=limits.INPUT_SIDE)]


class Precision(StrEnum):
    """Arithmetic of an offline model's heavy operators."""

    F32 = "f32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


class Interpolation(StrEnum):
    """Resampling filter of the resize, antialiased as Pillow does it."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class CropMode(StrEnum):
    """How the image is brought to the size from which the crop is cut."""

    CENTER = "center"  # shorter side to the resize size, aspect kept
    SQUASH = "squash"  # both sides to the resize size, aspect lost


class ColorOrder(StrEnum):
    """Order of the channels in the tensor that the network sees."""

    RGB = "RGB"
    BGR = "BGR"


class Preprocess(Record):
    """How an image becomes the network's input. Field names are timm's (`pretrained_cfg`).

    A mismatch here is the most common "conversion loss", so the record travels: in the ONNX metadata, in the offline
    model's manifest and in every result.

    Attributes:
        input_size: channels, height, width in pixels; channels is 1 or 3.
        crop_pct: crop size ÷ resize size; the resize size is floor(size / crop_pct).
        crop_mode: see CropMode.
        interpolation: see Interpolation.
        mean: per channel, on pixels scaled to 0…1, in the order of `color_order`.
        std: per channel, likewise.
        color_order: channel order that the network was trained with.
    """

    input_size: tuple[Annotated[int, Field(ge=1, le=4)], _Side, _Side]
    crop_pct: Annotated[float, Field(gt=0, le=2)] = 0.875
    crop_mode: CropMode = CropMode.CENTER
    interpolation: Interpolation = Interpolation.BILINEAR
    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = IMAGENET_MEAN
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = IMAGENET_STD
    color_order: ColorOrder = ColorOrder.RGB

    @model_validator(mode="after")
    def _channels_agree(self) -> Self:
        channels = self.input_size[0]
        if channels not in (1, 3):
            raise ValueError(f"input_size has {channels} channels; 1 (grey) or 3 (colour) are accepted")
        if not channels == len(self.mean) == len(self.std):
            raise ValueError(f"mean and std need {channels} values each, got {len(self.mean)} and {len(self.std)}")
        return self

    @property
    def resize_size(self) -> tuple[int, int]:
        """Height and width before the crop, in pixels: floor(size / crop_pct), as timm computes it."""
        _, height, width = self.input_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)

    @property
    def pixels_digest(self) -> str:
        """Tells apart what makes other pixels: size, crop and interpolation. Mean, std and channel order come after them."""
        fields = self.model_dump(mode="json", include={"input_size", "crop_pct", "crop_mode", "interpolation"})
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: Preprocess) -> list[str]:
        """Each field in which `other` differs, as `name: ours, theirs`."""
        ours, theirs = self.jsonable(), other.jsonable()
        return [f"{key}: {ours[key]}, {theirs[key]}" for key in ours if ours[key] != theirs[key]]


class ModelSpec(Record):
    """Which network this is and what it needs.

    Attributes:
        arch: timm's architecture name, or the ONNX file's stem where there is none.
        num_classes: width of the output.
        checkpoint_sha256: digest of the weights file; None for random weights or an ONNX of unknown origin.
        preprocess: see Preprocess.
        class_names: a name for each class, from class 0; None where they are not known, and then not written either, so that
            earlier versions read what has none.
    """

    arch: str
    num_classes: Annotated[int, Field(ge=1, le=limits.CLASSES)]
    checkpoint_sha256: str | None = None
    preprocess: Preprocess
    class_names: tuple[Annotated[str, Field(min_length=1, max_length=limits.LINE_CHARACTERS)], ...] | None = None

    @model_validator(mode="after")
    def _a_name_for_each_class(self) -> Self:
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"class_names has {len(self.class_names):,} names for {self.num_classes:,} classes")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_names(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = handler(self)
        if self.class_names is None:
            del data["class_names"]
        return data

    def named(self, names: tuple[str, ...] | None) -> ModelSpec:
        """The same with these names of its classes; itself where there are none to give.

        Raises:
            FormatError: there are more or fewer of them than classes.
        """
        if names is None:
            return self
        if len(names) != self.num_classes:
            raise FormatError(
                f"{len(names):,} class names were given, and the model has {self.num_classes:,} classes; give one for each, from "
                "class 0"
            )
        return self.model_copy(update={"class_names": names})

    def called(self, label: int) -> str:
        """How a class is told in tables: by its number, and its name where names are known."""
        known = self.class_names is not None and 0 <= label < len(self.class_names)
        return f"{label} {self.name_of(label)}" if known else str(label)

    def name_of(self, label: int) -> str:
        """The class's name; its number where names are not known."""
        return self.class_names[label] if self.class_names is not None else str(label)
