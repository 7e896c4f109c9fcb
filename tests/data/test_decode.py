"""Decoding: equal to torchvision and to timm on real photographs, every Pillow mode, and images that are no good."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.data.decode import Decoder, open_image
from modelport.data.resize import MAX_RESIZED_PIXELS
from modelport.data.source import Sample
from modelport.errors import DataError
from modelport.origin import read_bytes
from modelport.spec import ColorOrder, CropMode, Interpolation, Preprocess

IMAGE = Sample("image.png", Path("image.png"))
RAW = Sample("image.bin", Path("image.bin"))
SMALL = Preprocess(input_size=(3, 32, 32), crop_pct=1.0)
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def prepare(preprocess: Preprocess, data: bytes, sample: Sample = IMAGE) -> np.ndarray:
    """What the decoder makes of a file's bytes."""
    out = np.full(preprocess.input_size, np.nan, dtype=np.float32)
    Decoder(preprocess)(sample, data, out)
    return out


def by_torchvision(preprocess: Preprocess, image: Image.Image, *, resize: int) -> np.ndarray:
    """The classic evaluation transform, written out."""
    transforms = pytest.importorskip("torchvision.transforms")
    chain = transforms.Compose(
        [
            transforms.Resize(resize, interpolation=transforms.InterpolationMode(preprocess.interpolation.value)),
            transforms.CenterCrop(preprocess.input_size[1:]),
            transforms.ToTensor(),
            transforms.Normalize(preprocess.mean, preprocess.std),
        ]
    )
    return chain(image).numpy()


def by_timm(preprocess: Preprocess, data: bytes) -> np.ndarray:
    """timm's loader and evaluation transform."""
    timm_data = pytest.importorskip("timm.data")
    chain = timm_data.create_transform(
        preprocess.input_size,
        is_training=False,
        interpolation=preprocess.interpolation.value,
        mean=preprocess.mean,
        std=preprocess.std,
        crop_pct=preprocess.crop_pct,
        crop_mode=preprocess.crop_mode.value,
    )
    image = Image.open(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = image.convert("RGB" if preprocess.input_size[0] == 3 else "L")
    return chain(image).numpy()


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("filtering", [Interpolation.BILINEAR, Interpolation.BICUBIC])
@pytest.mark.parametrize(("size", "crop_pct", "resize"), [(224, 0.875, 256), (256, 0.887, 288), (64, 1.0, 64)])
@pytest.mark.parametrize("photograph", ["china", "flower"])
@pytest.mark.parametrize("portrait", [False, True], ids=["landscape", "portrait"])
def test_photograph_equals_torchvision(photographs, encode, filtering, size, crop_pct, resize, photograph, portrait):
    image = photographs[photograph]
    image = image.transpose(Image.Transpose.ROTATE_90) if portrait else image
    preprocess = Preprocess(input_size=(3, size, size), crop_pct=crop_pct, interpolation=filtering)
    assert preprocess.resize_size == (resize, resize)
    assert_same(
        prepare(preprocess, encode(image, "PPM")),
        by_torchvision(preprocess, image, resize=resize),
    )


@pytest.mark.parametrize(
    "shape",
    [(321, 243), (243, 321), (501, 333), (257, 256), (256, 257), (256, 256), (225, 1000), (100, 75), (31, 30), (1, 1)],
)
def test_odd_and_small_sizes_equal_torchvision(photographs, encode, shape):
    image = photographs["flower"].resize(shape)
    preprocess = Preprocess(input_size=(3, 224, 224))
    assert_same(prepare(preprocess, encode(image, "PPM")), by_torchvision(preprocess, image, resize=256))


@pytest.mark.parametrize("shape", [(50, 200), (200, 51), (33, 35)])
def test_image_smaller_than_the_crop_is_padded_as_torchvision_pads(photographs, encode, shape):
    """With crop_pct over 1 the resized image is smaller than the crop."""
    image = photographs["china"].resize(shape)
    preprocess = Preprocess(input_size=(3, 65, 65), crop_pct=1.3)
    ours = prepare(preprocess, encode(image))
    assert_same(ours, by_torchvision(preprocess, image, resize=50))
    black = (0 - np.float32(preprocess.mean[0])) / np.float32(preprocess.std[0])
    assert ours[0, 0, 0] == pytest.approx(black)


@pytest.mark.parametrize("filtering", list(Interpolation))
def test_every_interpolation_equals_timm(photographs, encode, filtering):
    preprocess = Preprocess(input_size=(3, 96, 96), interpolation=filtering)
    data = encode(photographs["flower"])
    assert_same(prepare(preprocess, data), by_timm(preprocess, data))


def test_the_interpolations_differ(photographs, encode):
    data = encode(photographs["flower"])
    made = [prepare(Preprocess(input_size=(3, 96, 96), interpolation=one), data) for one in Interpolation]
    assert all(np.abs(a - b).max() > 0.01 for i, a in enumerate(made) for b in made[:i])


@pytest.mark.parametrize("crop_mode", list(CropMode))
@pytest.mark.parametrize("size", [(224, 224), (160, 96), (97, 161), (224, 192)])
@pytest.mark.parametrize("shape", [(640, 427), (427, 640), (301, 301)])
def test_crop_modes_equal_timm_also_for_non_square_input(photographs, encode, crop_mode, size, shape):
    data = encode(photographs["china"].resize(shape), "PPM")
    preprocess = Preprocess(input_size=(3, *size), crop_mode=crop_mode, interpolation=Interpolation.BICUBIC)
    assert_same(prepare(preprocess, data), by_timm(preprocess, data))


def test_squash_and_center_differ(photographs, encode):
    data = encode(photographs["china"])
    center, squash = (prepare(Preprocess(input_size=(3, 64, 64), crop_mode=mode), data) for mode in CropMode)
    assert np.abs(center - squash).max() > 0.1


def palette_transparent(image: Image.Image) -> Image.Image:
    indexed = image.quantize(16)
    indexed.info["transparency"] = bytes(range(0, 256, 16))
    return indexed


def wide_range(image: Image.Image) -> Image.Image:
    grey = np.asarray(image.convert("L")).astype(np.uint16)
    return Image.fromarray(grey * 257)


MODES = {
    "grey": (lambda image: image.convert("L"), "JPEG"),
    "CMYK": (lambda image: image.convert("CMYK"), "JPEG"),
    "YCbCr": (lambda image: image.convert("YCbCr"), "JPEG"),
    "palette": (lambda image: image.quantize(16), "PNG"),
    "palette GIF": (lambda image: image.quantize(16), "GIF"),
    "palette and transparency": (palette_transparent, "PNG"),
    "RGBA": (lambda image: image.copy().convert("RGBA"), "PNG"),
    "RGBA WebP": (lambda image: image.convert("RGBA"), "WEBP"),
    "LA": (lambda image: image.convert("LA"), "PNG"),
    "16 bit": (wide_range, "PNG"),
    "16 bit TIFF": (wide_range, "TIFF"),
    "1 bit": (lambda image: image.convert("1"), "PNG"),
    "BMP": (lambda image: image, "BMP"),
    "PGM": (lambda image: image.convert("L"), "PPM"),
}


@pytest.mark.parametrize("channels", [3, 1], ids=["colour", "grey"])
@pytest.mark.parametrize("mode", MODES)
def test_every_pillow_mode_is_converted_as_timm_does(china, encode, mode, channels):
    change, kind = MODES[mode]
    image = change(china)
    if image.mode in ("RGBA", "LA"):
        image.putalpha(china.convert("L"))
    data = encode(image, kind)
    stored = Image.open(io.BytesIO(data)).mode
    assert kind != "PNG" or stored == image.mode, "the file would not test this mode"
    preprocess = Preprocess(input_size=(channels, 48, 48), mean=(0.4,) * channels, std=(0.3,) * channels)
    assert_same(prepare(preprocess, data), by_timm(preprocess, data))


def test_normalize_is_pixel_minus_mean_over_std(encode):
    data = encode(Image.new("RGB", (8, 8), (255, 51, 0)))
    preprocess = Preprocess(input_size=(3, 8, 8), crop_pct=1.0, mean=(0.5, 0.1, 0.25), std=(0.5, 0.2, 0.125))
    assert prepare(preprocess, data)[:, 3, 3] == pytest.approx([1.0, 0.5, -2.0])


def test_bgr_swaps_the_channels_and_leaves_mean_and_std_in_network_order(encode):
    data = encode(Image.new("RGB", (8, 8), (255, 51, 0)))
    preprocess = Preprocess(
        input_size=(3, 8, 8),
        crop_pct=1.0,
        mean=(0.25, 0.1, 0.5),
        std=(0.125, 0.2, 0.5),
        color_order=ColorOrder.BGR,
    )
    assert prepare(preprocess, data)[:, 0, 0] == pytest.approx([-2.0, 0.5, 1.0])


def test_bgr_is_rgb_reversed_on_a_photograph(photographs, encode):
    data = encode(photographs["flower"])
    rgb = Preprocess(input_size=(3, 64, 64), **PLAIN)
    bgr = rgb.model_copy(update={"color_order": ColorOrder.BGR})
    np.testing.assert_array_equal(prepare(bgr, data), prepare(rgb, data)[::-1])


def test_one_channel_input_is_the_luma(encode):
    data = encode(Image.new("RGB", (8, 8), (255, 0, 0)))
    preprocess = Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.0,), std=(1.0,))
    assert prepare(preprocess, data)[0, 0, 0] == pytest.approx(76 / 255)  # ITU-R 601-2


def test_exif_orientation_is_left_alone_as_timm_leaves_it(china, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(china, "JPEG", exif=exif.tobytes())
    assert_same(prepare(SMALL, data), by_timm(SMALL, data))


def test_first_frame_of_an_animation_is_used(china, encode):
    frames = [china, Image.new("RGB", china.size, "red")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert_same(prepare(SMALL, data), prepare(SMALL, encode(china)))


def test_pixels_are_uint8_rows_by_columns_in_rgb_order(encode):
    data = encode(Image.new("RGB", (40, 20), (10, 20, 30)))
    bgr = Preprocess(input_size=(3, 8, 12), crop_pct=1.0, color_order=ColorOrder.BGR)
    pixels = Decoder(bgr).pixels(data)
    assert (pixels.shape, pixels.dtype) == ((8, 12, 3), np.uint8)
    assert pixels[4, 4].tolist() == [10, 20, 30]


class TestRawInput:
    """The guide's `.bin`: float32, channels x height x width, used as it is."""

    def test_values_are_taken_as_they_are(self):
        values = np.linspace(-3, 3, 3 * 32 * 32, dtype="<f4").reshape(3, 32, 32)
        np.testing.assert_array_equal(prepare(SMALL, values.tobytes(), RAW), values)

    def test_color_order_does_not_touch_prepared_values(self):
        values = np.arange(3 * 4 * 4, dtype="<f4").reshape(3, 4, 4)
        bgr = Preprocess(input_size=(3, 4, 4), color_order=ColorOrder.BGR)
        np.testing.assert_array_equal(prepare(bgr, values.tobytes(), RAW), values)

    @pytest.mark.parametrize("count", [0, 12287, 12289, 24576])
    def test_wrong_size_is_refused(self, count):
        with pytest.raises(DataError, match=f"holds {count} bytes; preprocessed float32 3x32x32 has 12288"):
            prepare(SMALL, bytes(count), RAW)

    def test_suffix_in_capitals_is_raw_as_well(self):
        """A source takes `X.BIN` for an input, so the decoder must take it for the same kind of input."""
        values = np.arange(3 * 32 * 32, dtype="<f4").reshape(3, 32, 32)
        sample = Sample("IMAGE.BIN", Path("IMAGE.BIN"))
        np.testing.assert_array_equal(prepare(SMALL, values.tobytes(), sample), values)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few dozen bytes whose header declares this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class TestBadImages:
    """Every bad image is one DataError in one line, and never a warning."""

    @pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
    def test_truncated_jpeg(self, photographs, encode, kept):
        data = encode(photographs["china"], "JPEG")
        with pytest.raises(DataError, match=r"^is damaged: .*truncated"):
            prepare(SMALL, data[: int(len(data) * kept)])

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
    def test_truncated_file_of_any_kind(self, china, encode, kind):
        data = encode(china, kind)
        with pytest.raises(DataError, match=r"^is (damaged|not an image)"):
            prepare(SMALL, data[: len(data) // 2])

    def test_zero_bytes(self):
        with pytest.raises(DataError, match=r"^the file is empty \(0 bytes\)$"):
            prepare(SMALL, b"")

    def test_text_named_jpg(self):
        with pytest.raises(DataError, match=r"^is not an image that Pillow can read \(begins with b'hello world"):
            prepare(SMALL, b"hello world, this is text\n", Sample("text.jpg", Path("text.jpg")))

    def test_a_format_outside_the_accepted_ones(self, china, encode):
        with pytest.raises(DataError, match="is not an image that Pillow can read"):
            prepare(SMALL, encode(china, "PDF"))

    @pytest.mark.parametrize("shape", [(30_000, 1), (1, 30_000)])
    def test_strip_30000_pixels_long(self, encode, shape):
        data = encode(Image.new("RGB", shape))
        with pytest.raises(DataError, match=f"{shape[0]}x{shape[1]} would become .* when resized: too long and thin"):
            prepare(Preprocess(input_size=(3, 224, 224)), data)

    def test_long_strip_within_reason_is_prepared(self, encode):
        data = encode(Image.new("RGB", (3000, 30), "white"))
        assert MAX_RESIZED_PIXELS > 3000 * 256 / 30 * 256
        assert np.ptp(prepare(Preprocess(input_size=(3, 224, 224)), data)[0]) == 0

    def test_squash_takes_a_strip_because_it_does_not_grow(self, encode):
        preprocess = Preprocess(input_size=(3, 32, 32), crop_mode=CropMode.SQUASH)
        assert np.isfinite(prepare(preprocess, encode(Image.new("RGB", (30_000, 1))))).all()

    @pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (60_000, 60_000)], ids=["over", "far over"])
    def test_decompression_bomb(self, width, height):
        """Over Pillow's limit, where Pillow only warns, and over twice the limit, where it raises."""
        with pytest.raises(DataError, match=r"safe limit|decoded safely"):
            prepare(SMALL, png_claiming(width, height))

    def test_the_limit_is_pillows_own_and_can_be_raised(self, china, encode, monkeypatch):
        data = encode(china)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 97 * 61 - 1)
        with pytest.raises(DataError, match=r"97x61 pixels are over the safe limit of 5916 \(a decompression bomb\?\)"):
            prepare(SMALL, data)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 97 * 61)
        assert np.isfinite(prepare(SMALL, data)).all()
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert np.isfinite(prepare(SMALL, data)).all()

    def test_missing_file(self, tmp_path):
        with pytest.raises(DataError, match=r"^cannot be read: No such file or directory$"):
            read_bytes(tmp_path / "absent.jpg")

    def test_directory_named_like_an_image(self, tmp_path):
        (tmp_path / "folder.jpg").mkdir()
        with pytest.raises(DataError, match=r"^cannot be read: Is a directory$"):
            read_bytes(tmp_path / "folder.jpg")

    def test_damaged_bytes_anywhere_are_a_one_line_data_error_or_an_image(self, china, encode):
        """Flipped and cut bytes, in every format: nothing but DataError comes out."""
        random, refused = np.random.default_rng(7), []
        for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
            good = encode(china, kind)
            for _ in range(40):
                data = bytearray(good)
                for place in random.integers(0, min(len(data), 300), size=4):
                    data[place] = random.integers(256)
                try:
                    prepare(SMALL, bytes(data[: random.integers(1, len(data) + 1)]))
                except DataError as error:
                    refused.append(str(error))
        assert len(refused) > 100
        assert not [message for message in refused if "\n" in message]


class TestWarnings:
    """Pillow's warnings about a file neither reach the user nor change what is made of it."""

    def test_corrupt_exif_still_decodes(self, china, encode):
        """Cameras and editors write such EXIF blocks, and ImageNet has some; Pillow warns when it opens the file."""
        exif = Image.Exif()
        exif[0x010E] = "a description that is not in line"
        whole = exif.tobytes()
        data = encode(china, "JPEG", exif=whole[: len(whole) - 20])
        with pytest.warns(UserWarning, match=r"Truncated|Corrupt|larger"):
            Image.open(io.BytesIO(data))
        assert_same(prepare(SMALL, data), prepare(SMALL, encode(china, "JPEG")))

    def test_decoding_in_threads_leaves_the_callers_warning_filters_alone(self, photographs, encode):
        data = encode(photographs["china"], "PNG")
        before, together = list(warnings.filters), threading.Barrier(4)

        def work(_: int) -> None:
            together.wait(timeout=30)
            prepare(SMALL, data)

        try:
            with ThreadPoolExecutor(4) as pool:
                for _ in range(10):
                    list(pool.map(work, range(4)))
            assert list(warnings.filters) == before
        finally:
            warnings.filters[:] = before


def test_decoder_may_be_shared_by_threads(photographs, encode):
    preprocess = Preprocess(input_size=(3, 64, 64))
    decoder = Decoder(preprocess)
    files = [encode(photographs[name].rotate(angle)) for name in photographs for angle in (0, 90, 180, 270)]
    outs = np.full((len(files), 3, 64, 64), np.nan, dtype=np.float32)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda row: decoder(IMAGE, files[row], outs[row]), range(len(files))))
    for row, data in enumerate(files):
        np.testing.assert_array_equal(outs[row], prepare(preprocess, data))


def test_open_image_does_not_decode_pixels(photographs, encode):
    """The size of a file can be asked for without paying for its pixels, even where they are damaged."""
    data = encode(photographs["china"], "JPEG")
    assert open_image(data[: len(data) // 2]).size == (640, 427)


@pytest.mark.parametrize("order", list(ColorOrder))
def test_a_uint8_buffer_gets_the_pixels_in_rgb_order_whatever_the_network_wants(encode, order):
    preprocess = Preprocess(input_size=(3, 10, 14), crop_pct=1.0, color_order=order)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    out = np.zeros((10, 14, 3), np.uint8)

    Decoder(preprocess)(IMAGE, encode(Image.fromarray(pixels)), out)

    np.testing.assert_array_equal(out, pixels)


def test_a_grey_uint8_buffer_keeps_its_channel(encode):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    out = np.zeros((8, 8, 1), np.uint8)

    Decoder(Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.5,), std=(0.5,)))(
        IMAGE, encode(Image.fromarray(pixels)), out
    )

    np.testing.assert_array_equal(out[..., 0], pixels)


def test_preprocessed_floats_do_not_fit_a_uint8_buffer():
    with pytest.raises(
        DataError, match="is preprocessed float32 data, and this model takes uint8 pixels: give it images"
    ):
        Decoder(SMALL)(RAW, bytes(4 * 3 * 32 * 32), np.zeros((32, 32, 3), np.uint8))
