"""AIPP against the float path: the same photograph must reach the network as the same numbers."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from modelport.data.decode import Decoder
from modelport.errors import FormatError
from modelport.graph.aipp import Aipp
from modelport.spec import IMAGENET_MEAN, IMAGENET_STD, Preprocess

IMAGENET = Preprocess(input_size=(3, 224, 224))


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """scikit-learn's photograph of a flower, as JPEG."""
    datasets = pytest.importorskip("sklearn.datasets")
    file = io.BytesIO()
    Image.fromarray(datasets.load_sample_image("flower.jpg")).save(file, "JPEG", quality=95)
    return file.getvalue()


def both(preprocess: Preprocess, data: bytes, aipp: Aipp | None = None, **how) -> tuple[np.ndarray, np.ndarray]:
    """The network's input by AIPP from uint8 NHWC, and by the decoder's float path."""
    decoder = Decoder(preprocess)
    pixels = decoder.pixels(data)
    expected = np.empty(preprocess.input_size, np.float32)
    decoder.normalize(pixels, expected)
    assert np.ptp(expected) > 0.9  # a picture, not a plain colour
    given = pixels.reshape(1, *pixels.shape[:2], -1)
    return (aipp or Aipp.of(preprocess)).apply(given, **how)[0], expected


@pytest.mark.parametrize(
    "preprocess",
    [
        pytest.param(IMAGENET, id="RGB"),
        pytest.param(Preprocess(input_size=(3, 224, 224), color_order="BGR", mean=(0.4, 0.45, 0.5)), id="BGR"),
        pytest.param(Preprocess(input_size=(3, 96, 160), mean=(0, 0, 0), std=(1, 1, 1)), id="only scaled"),
        pytest.param(Preprocess(input_size=(1, 32, 48), mean=(0.1307,), std=(0.3081,)), id="grey"),
    ],
)
def test_aipp_equals_the_float_path(photograph, preprocess):
    got, expected = both(preprocess, photograph)

    assert got.dtype == np.float32
    assert got.shape == preprocess.input_size
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_without_the_swap_bgr_differs(photograph):
    preprocess = Preprocess(input_size=(3, 224, 224), color_order="BGR")
    assert Aipp.of(preprocess).rbuv_swap

    got, expected = both(preprocess, photograph, replace(Aipp.of(preprocess), rbuv_swap=False))

    assert np.abs(got - expected).max() > 0.5


def test_the_published_configuration_with_means_of_0_to_1_is_wrong(photograph):
    got, expected = both(IMAGENET, photograph, replace(Aipp.of(IMAGENET), min_chn=IMAGENET_MEAN))

    np.testing.assert_allclose(got - expected, ((np.array(IMAGENET_MEAN) * 254) / (255 * np.array(IMAGENET_STD)))[:, None, None]
                               * np.ones_like(expected), atol=1e-4)  # fmt: skip
    assert np.abs(got - expected).min() > 1.7


def test_float16_constants_move_a_value_by_less_than_half_a_pixel_step(photograph):
    """The manual gives the constants as float16: what that may cost, were the arithmetic float16 as well."""
    got, expected = both(IMAGENET, photograph, dtype=np.float16)

    error = np.abs(got.astype(np.float32) - expected).max()
    assert 1e-4 < error < 0.5 / (255 * max(IMAGENET_STD))


def test_the_configuration_holds_the_documented_constants():
    lines = Aipp.of(IMAGENET).config().splitlines()
    assert (lines[0], lines[-1]) == ("aipp_op {", "}")
    values = dict(re.fullmatch(r"    (\w+): (\S+)", line).groups() for line in lines[1:-1])

    assert len(values) == len(lines) - 2  # no key twice
    assert values["aipp_mode"] == "static"
    assert values["input_format"] == "RGB888_U8"
    assert (values["src_image_size_w"], values["src_image_size_h"]) == ("224", "224")
    assert (values["crop"], values["csc_switch"], values["rbuv_swap_switch"]) == ("false", "false", "false")
    assert [values[f"mean_chn_{c}"] for c in range(3)] == ["0", "0", "0"]
    assert [values[f"min_chn_{c}"] for c in range(3)] == ["123.675", "116.28", "103.53"]
    assert [f"{float(values[f'var_reci_chn_{c}']):.10f}" for c in range(3)] == [
        "0.0171247538",
        "0.0175070028",
        "0.0174291939",
    ]


def test_width_and_height_are_not_mixed_up():
    config = Aipp.of(Preprocess(input_size=(3, 96, 160))).config()

    assert "src_image_size_w: 160\n" in config
    assert "src_image_size_h: 96\n" in config


def test_grey_has_one_channel_and_no_swap():
    config = Aipp.of(Preprocess(input_size=(1, 28, 28), mean=(0.5,), std=(0.25,), color_order="BGR")).config()

    assert "input_format: YUV400_U8\n" in config
    assert "rbuv_swap_switch: false\n" in config
    assert "min_chn_0: 127.5\n" in config
    assert "chn_1" not in config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (3, 32, 1)}, r"2…4096 x 1…4096 pixels \(width x height\), not 1x32; compile without --aipp"),
        ({"input_size": (3, 5000, 32)}, "not 32x5000"),
        ({"mean": (-0.1, 0, 0)}, "takes a mean of 0…1, not"),
        ({"mean": (0.5, 0.5, 1.1)}, "takes a mean of 0…1, not"),
        ({"std": (1, 1, 1e-8)}, "no standard deviation as small as in"),
    ],
)
def test_what_aipp_cannot_express_is_refused(changes, message):
    with pytest.raises(FormatError, match=message):
        Aipp.of(Preprocess(**{"input_size": (3, 32, 32), **changes}))
