"""What a model needs: limits of its fields, the resize size, and differences that are named."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from modelport.errors import FormatError
from modelport.spec import IMAGENET_MEAN, IMAGENET_STD, ColorOrder, CropMode, Interpolation, ModelSpec, Preprocess

CSPRESNEXT = Preprocess(input_size=(3, 224, 224))


def test_defaults_are_imagenets():
    assert (CSPRESNEXT.mean, CSPRESNEXT.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert CSPRESNEXT.crop_pct == 0.875
    assert CSPRESNEXT.crop_mode is CropMode.CENTER
    assert CSPRESNEXT.interpolation is Interpolation.BILINEAR
    assert CSPRESNEXT.color_order is ColorOrder.RGB


@pytest.mark.parametrize(
    ("size", "crop_pct", "expected"),
    [
        ((224, 224), 0.875, (256, 256)),
        ((256, 256), 0.887, (288, 288)),
        ((64, 64), 1.0, (64, 64)),
        ((224, 192), 0.875, (256, 219)),
        ((299, 299), 0.9, (332, 332)),
        ((100, 100), 1.3, (76, 76)),
    ],
)
def test_resize_size_is_floor_of_size_over_crop(size, crop_pct, expected):
    """Height first. timm computes math.floor(size / crop_pct)."""
    assert Preprocess(input_size=(3, *size), crop_pct=crop_pct).resize_size == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_size": [2, 8, 8]}, r"input_size has 2 channels; 1 \(grey\) or 3 \(colour\) are accepted"),
        ({"input_size": [1, 8, 8]}, "mean and std need 1 values each, got 3 and 3"),
        ({"mean": [0.5]}, "mean and std need 3 values each, got 1 and 3"),
        ({"std": [0.5, 0.5]}, "mean and std need 3 values each, got 3 and 2"),
        ({"std": [0.5, 0, 0.5]}, r"std\.1: input should be greater than 0, got 0"),
        ({"crop_pct": 0}, "crop_pct: input should be greater than 0, got 0"),
        ({"crop_pct": 3}, "crop_pct: input should be less than or equal to 2, got 3"),
        ({"input_size": [3, 0, 8]}, r"input_size\.1: input should be greater than or equal to 1, got 0"),
        ({"input_size": [3, 8]}, r"input_size\.2: is required"),
        ({"interpolation": "cubic"}, "interpolation: input should be 'nearest', 'bilinear', 'bicubic' or 'lanczos'"),
        ({"crop_mode": "border"}, "crop_mode: input should be 'center' or 'squash', got \"border\""),
        ({"color_order": "rgb"}, "color_order: input should be 'RGB' or 'BGR', got \"rgb\""),
        ({"crop_ptc": 0.9}, "crop_ptc: unknown key, did you mean 'crop_pct'"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(FormatError, match=f"^recipe: .*{message}"):
        Preprocess.parse({"input_size": [3, 8, 8], **fields}, "recipe")


def test_grey_needs_one_mean_and_one_std():
    assert Preprocess(input_size=(1, 8, 8), mean=(0.5,), std=(0.5,)).input_size == (1, 8, 8)


def test_a_preprocess_in_code_is_checked_as_well():
    with pytest.raises(ValidationError, match="less than or equal to 4"):
        Preprocess(input_size=(5, 8, 8))


def test_differences_name_each_field_ours_first():
    other = Preprocess(input_size=(3, 256, 256), crop_pct=0.887, color_order=ColorOrder.BGR)
    assert CSPRESNEXT.differences(other) == [
        "input_size: [3, 224, 224], [3, 256, 256]",
        "crop_pct: 0.875, 0.887",
        "color_order: RGB, BGR",
    ]
    assert CSPRESNEXT.differences(Preprocess(input_size=(3, 224, 224))) == []


def test_model_spec_travels_through_json(tmp_path):
    spec = ModelSpec(arch="cspresnext50", num_classes=1000, checkpoint_sha256="ab" * 32, preprocess=CSPRESNEXT)
    spec.write(tmp_path / "spec.json")
    assert ModelSpec.read(tmp_path / "spec.json") == spec
    assert ModelSpec.parse(spec.jsonable(), "metadata") == spec


def test_model_spec_names_nested_places():
    document = ModelSpec(arch="x", num_classes=2, preprocess=CSPRESNEXT).jsonable()
    document["preprocess"]["std"] = [1, -1, 1]
    with pytest.raises(FormatError, match=r"^metadata: preprocess\.std\.1: input should be greater than 0, got -1$"):
        ModelSpec.parse(document, "metadata")
    with pytest.raises(FormatError, match=r"num_classes: input should be greater than or equal to 1, got 0$"):
        ModelSpec.parse({**document, "num_classes": 0, "preprocess": CSPRESNEXT.jsonable()}, "metadata")
