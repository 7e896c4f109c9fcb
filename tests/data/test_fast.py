"""Fast preprocessing: simplejpeg's pixels are Pillow's, the fused crop is near the exact one, and errors are the same."""

from __future__ import annotations

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.data import fast, jpeg
from modelport.data.decode import Decoder, open_image
from modelport.data.decoders import make_decoder
from modelport.data.fast import FastDecoder
from modelport.data.jpeg import decode_jpeg
from modelport.data.resize import fit_exact, fit_fused
from modelport.data.source import Sample
from modelport.errors import DataError
from modelport.spec import CropMode, Interpolation, Preprocess

IMAGE, RAW = Sample("image.jpg", Path("image.jpg")), Sample("image.bin", Path("image.bin"))
IMAGENET = Preprocess(input_size=(3, 224, 224))
GREY = Preprocess(input_size=(1, 32, 32), mean=(0.5,), std=(0.5,))
NEAR = {Interpolation.NEAREST: 0, Interpolation.BILINEAR: 1, Interpolation.BICUBIC: 8, Interpolation.LANCZOS: 16}
needs_simplejpeg = pytest.mark.skipif(
    jpeg.simplejpeg() is None, reason="simplejpeg is not installed: pip install 'modelport[fast]'"
)


@pytest.fixture
def helped(monkeypatch):
    """simplejpeg decodes, whether or not this machine's Pillow is slower."""
    monkeypatch.setattr(fast, "pays", lambda: True)


@pytest.fixture
def without(monkeypatch):
    """simplejpeg is not installed, and would be faster."""
    monkeypatch.setattr(fast, "pays", lambda: True)
    monkeypatch.setattr(fast, "simplejpeg", lambda: None)
    monkeypatch.setattr(jpeg, "simplejpeg", lambda: None)


def outcome(decoder: Decoder, data: bytes) -> tuple[bytes | None, str | None]:
    """The pixels, or the error's text."""
    try:
        return decoder.pixels(data).tobytes(), None
    except DataError as error:
        return None, str(error)


@needs_simplejpeg
class TestSamePixels:
    @pytest.mark.parametrize("name", ["china", "flower"])
    @pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
    @pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_of_photographs(self, photographs, encode, name, subsampling, progressive, mode):
        for size, quality in (
            ((500, 375), 75),
            ((375, 499), 90),
            ((333, 251), 100),
            ((97, 61), 30),
            ((17, 8), 50),
            ((1, 1), 95),
        ):
            image = photographs[name].resize(size).convert(mode)
            more = {"subsampling": subsampling} if mode == "RGB" else {}
            data = encode(image, "JPEG", quality=quality, progressive=progressive, **more)
            for wanted in ("RGB", "L") if mode == "L" else ("RGB",):
                found = decode_jpeg(open_image(data), data, wanted)
                assert (found.mode, found.size) == (wanted, size)
                np.testing.assert_array_equal(
                    np.asarray(found), np.asarray(Image.open(io.BytesIO(data)).convert(wanted))
                )

    def test_with_restart_markers_an_odd_orientation_and_trailing_bytes(self, photographs, encode):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encode(photographs["china"], "JPEG", restart_marker_blocks=3, exif=exif.tobytes()) + b"trailing"
        found = decode_jpeg(open_image(data), data, "RGB")
        np.testing.assert_array_equal(np.asarray(found), np.asarray(Image.open(io.BytesIO(data))))


@needs_simplejpeg
class TestLeftToPillow:
    @pytest.mark.parametrize(("change", "kind", "options"), [
        pytest.param(lambda image: image.convert("CMYK"), "JPEG", {}, id="CMYK"),
        pytest.param(lambda image: image, "JPEG", {"keep_rgb": True}, id="stored as RGB"),
        pytest.param(lambda image: image, "PNG", {}, id="PNG"),
        pytest.param(lambda image: image.resize((1200, 900)), "JPEG", {}, id="over a megapixel"),
    ])  # fmt: skip
    def test_other_kinds(self, helped, photographs, encode, change, kind, options):
        data = encode(change(photographs["china"]), kind, **options)
        assert decode_jpeg(open_image(data), data, "RGB") is None
        assert np.ptp(FastDecoder(IMAGENET).pixels(data)) > 100

    def test_colour_asked_for_as_grey(self, photographs, encode):
        """Pillow's grey is made of clipped RGB, libjpeg's is the luma as it is stored."""
        data = encode(photographs["china"], "JPEG")
        assert decode_jpeg(open_image(data), data, "L") is None

    def test_damaged_bytes_end_as_on_the_exact_path(self, helped, china, encode):
        """Flipped and cut bytes: the same pixels or the same words, whichever decoder saw them first."""
        whole = Preprocess(input_size=(3, 61, 61), crop_pct=1.0)  # nothing is resized: exact and fast pixels are equal
        good, random, refused = encode(china, "JPEG", quality=80), np.random.default_rng(11), 0
        for _ in range(300):
            data = bytearray(good)
            for place in random.integers(2, len(data), size=random.integers(1, 4)):
                data[place] = random.integers(256)
            data = bytes(data[: random.integers(len(data) // 2, len(data) + 1)] if random.random() < 0.5 else data)
            ours = outcome(FastDecoder(whole), data)
            assert ours == outcome(Decoder(whole), data)
            refused += ours[1] is not None
        assert 50 < refused < 300


@pytest.mark.parametrize("helping", ["helped", "without"])
@pytest.mark.parametrize("data", [b"", b"hello world", b"\xff\xd8\xff\xe0 no more"], ids=["empty", "text", "begin"])
def test_errors_are_those_of_the_exact_path(request, helping, data):
    request.getfixturevalue(helping)
    ours, theirs = outcome(FastDecoder(IMAGENET), data), outcome(Decoder(IMAGENET), data)
    assert ours == theirs
    assert ours[1]


def test_truncated_and_overlong_images_are_refused_in_the_same_words(helped, photographs, encode):
    for data in (encode(photographs["china"], "JPEG")[:20_000], encode(Image.new("RGB", (30_000, 1)), "JPEG")):
        ours, theirs = outcome(FastDecoder(IMAGENET), data), outcome(Decoder(IMAGENET), data)
        assert ours == theirs
        assert "truncated" in ours[1] or "too long and thin" in ours[1]


@pytest.mark.parametrize("interpolation", list(Interpolation))
@pytest.mark.parametrize("crop_mode", list(CropMode))
@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (640, 427), (301, 301), (100, 75), (225, 900), (256, 256)])
def test_the_fused_crop_is_near(photographs, shape, crop_mode, interpolation):
    image = photographs["flower"].resize(shape)
    preprocess = Preprocess(input_size=(3, 224, 224), crop_mode=crop_mode, interpolation=interpolation)
    exact, fused = (np.asarray(fit(image, preprocess)).astype(int) for fit in (fit_exact, fit_fused))
    assert fused.shape == exact.shape == (224, 224, 3)
    assert np.abs(fused - exact).max() <= NEAR[interpolation]


@pytest.mark.parametrize("size", [(160, 96), (97, 161), (224, 192)])
def test_the_fused_crop_is_near_for_input_that_is_not_square(photographs, size):
    preprocess = Preprocess(input_size=(3, *size))
    exact, fused = (np.asarray(fit(photographs["china"], preprocess)).astype(int) for fit in (fit_exact, fit_fused))
    assert np.abs(fused - exact).max() <= 1


def test_where_nothing_is_cropped_or_the_image_is_padded_it_is_equal(photographs):
    for preprocess in (
        Preprocess(input_size=(3, 427, 640), crop_pct=1.0),
        Preprocess(input_size=(3, 65, 65), crop_pct=1.3),
    ):
        exact, fused = (np.asarray(fit(photographs["china"], preprocess)) for fit in (fit_exact, fit_fused))
        np.testing.assert_array_equal(fused, exact)


class TestDecoder:
    def test_has_the_exact_decoders_signature_and_buffers(self, helped, photographs, encode):
        data = encode(photographs["china"], "JPEG")
        pixels, floats = np.zeros((224, 224, 3), np.uint8), np.zeros((3, 224, 224), np.float32)
        decoder = FastDecoder(IMAGENET)
        decoder(IMAGE, data, pixels)
        decoder(IMAGE, data, floats)
        np.testing.assert_array_equal(decoder.pixels(data), pixels)
        exact = np.zeros_like(floats)
        Decoder(IMAGENET)(IMAGE, data, exact)
        assert np.abs(floats - exact).max() <= 1.01 / 255 / min(IMAGENET.std)
        assert np.abs(floats - exact).max() > 0

    def test_grey(self, helped, photographs, encode):
        data, out = encode(photographs["china"].convert("L"), "JPEG"), np.zeros((32, 32, 1), np.uint8)
        FastDecoder(GREY)(IMAGE, data, out)
        assert np.abs(out[..., 0].astype(int) - Decoder(GREY).pixels(data)).max() <= 1

    def test_prepared_input_is_taken_as_it_is(self):
        values, out = np.linspace(-3, 3, 3 * 8 * 8, dtype="<f4").reshape(3, 8, 8), np.zeros((3, 8, 8), np.float32)
        FastDecoder(Preprocess(input_size=(3, 8, 8)))(RAW, values.tobytes(), out)
        np.testing.assert_array_equal(out, values)

    def test_may_be_shared_by_threads(self, helped, photographs, encode):
        decoder, files = FastDecoder(IMAGENET), [encode(photographs[name], "JPEG") for name in photographs] * 4
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(decoder.pixels, files))
        for data, pixels in zip(files, made, strict=True):
            np.testing.assert_array_equal(pixels, FastDecoder(IMAGENET).pixels(data))

    def test_without_simplejpeg_pillow_decodes_and_one_line_says_so(self, without, photographs, encode, caplog):
        data = encode(photographs["china"], "JPEG")
        with caplog.at_level(logging.INFO, "modelport"):
            found = FastDecoder(IMAGENET).pixels(data)
        assert [record.getMessage() for record in caplog.records] == [
            "fast preprocessing: Pillow decodes JPEG here, and simplejpeg would be faster: pip install 'modelport[fast]'"
        ]
        np.testing.assert_array_equal(found, np.asarray(fit_fused(Image.open(io.BytesIO(data)), IMAGENET)))

    def test_a_pillow_that_is_as_fast_is_not_helped(self, monkeypatch):
        for version, expected in (("3.0.4", True), ("3.1.2", True), ("3.2.0", False), ("4.0", False), (None, False)):
            monkeypatch.setattr(jpeg.features, "check_feature", lambda _, found=version: found is not None)
            monkeypatch.setattr(jpeg.features, "version_feature", lambda _, found=version: found)
            assert jpeg.pays.__wrapped__() is expected

    def test_is_chosen_by_name(self):
        assert type(make_decoder(IMAGENET, "exact")) is Decoder
        assert type(make_decoder(IMAGENET, "fast")) is FastDecoder
