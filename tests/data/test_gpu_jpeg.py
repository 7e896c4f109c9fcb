"""JPEG decoded by torchvision, on the processor in the GPU's place: the same code around it, and what is told where there is no GPU."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import numpy as np
import pytest
from PIL import Image

from modelport.data import gpu_jpeg
from modelport.data.decode import Decoder
from modelport.data.decoders import make_decoder
from modelport.data.fast import FastDecoder
from modelport.data.gpu_jpeg import FastGpuDecoder, GpuDecoder
from modelport.errors import DataError, EngineUnavailableError, InferenceError
from modelport.spec import Preprocess

torchvision = pytest.importorskip("torchvision")
PREPROCESS = Preprocess(input_size=(3, 24, 24), crop_pct=0.8)


def encoded(seed: int, mode: str = "RGB", kind: str = "JPEG", **how: object) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image, buffer = Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC).convert(mode), io.BytesIO()
    image.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}) | how)
    return buffer.getvalue()


@pytest.fixture
def on_processor(monkeypatch):
    monkeypatch.setattr(gpu_jpeg, "DEVICE", "cpu")


@pytest.fixture
def calls(monkeypatch, on_processor):
    """How many files each call decodes."""
    seen, decode_all = [], gpu_jpeg.decode_all

    def counting(files, mode):
        seen.append(len(files))
        return decode_all(files, mode)

    monkeypatch.setattr(gpu_jpeg, "decode_all", counting)
    return seen


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_near_pillows(calls, mode, progressive):
    data = encoded(1, mode, progressive=progressive)
    ours, theirs = GpuDecoder(PREPROCESS).pixels(data), Decoder(PREPROCESS).pixels(data)
    assert ours.shape == (24, 24, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 4
    assert calls == [1]


def test_a_grey_network_gets_grey(calls):
    grey = Preprocess(input_size=(1, 24, 24), crop_pct=0.8, mean=(0.5,), std=(0.5,))
    ours, theirs = GpuDecoder(grey).pixels(encoded(1)), Decoder(grey).pixels(encoded(1))
    assert ours.shape == (24, 24)
    assert np.abs(ours.astype(int) - theirs).max() <= 4
    assert calls == [1]


def test_fast_resizes_as_fast_does(calls):
    ours, theirs = FastGpuDecoder(PREPROCESS).pixels(encoded(2)), FastDecoder(PREPROCESS).pixels(encoded(2))
    assert np.abs(ours.astype(int) - theirs).max() <= 4
    assert calls == [1]


@pytest.mark.parametrize("data", [encoded(3, kind="PNG"), encoded(3, "CMYK")], ids=["png", "cmyk"])
def test_what_is_not_for_it_pillow_decodes(calls, data):
    assert np.array_equal(GpuDecoder(PREPROCESS).pixels(data), Decoder(PREPROCESS).pixels(data))
    assert calls == []


def test_a_file_that_was_cut_off_is_told_as_ever(calls):
    with pytest.raises(DataError, match="is damaged: image file is truncated"):
        GpuDecoder(PREPROCESS).pixels(encoded(4)[:-200])
    assert calls == []


def test_one_damaged_file_does_not_harm_those_of_the_same_call(on_processor):
    jpeg = gpu_jpeg.GpuJpeg()
    good, bad = encoded(5), encoded(5)[:40] + b"\xff\xd9"
    answers = [gpu_jpeg.Future() for _ in range(3)]
    jpeg._answer([(good, "RGB", answers[0]), (bad, "RGB", answers[1]), (good, "L", answers[2])])
    assert [None if a.result() is None else a.result().shape for a in answers] == [(60, 80, 3), None, (60, 80)]


def test_a_gpu_that_fails_ends_the_run_and_nobody_waits(on_processor, monkeypatch):
    def broken(files, mode):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ...")

    monkeypatch.setattr(gpu_jpeg, "decode_all", broken)
    decoder = GpuDecoder(PREPROCESS)
    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(decoder.pixels, encoded(number)) for number in range(8)]
    for result in results:
        with pytest.raises(
            InferenceError, match=r"^decoding on the GPU failed: CUDA error: an illegal memory access was encountered$"
        ):
            result.result()


def test_what_threads_wait_for_is_decoded_in_one_call(calls, monkeypatch):
    decoder, files = GpuDecoder(PREPROCESS), [encoded(number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool, decoder._jpeg._gpu:  # the GPU is busy until all of them wait
        results = [pool.submit(decoder.pixels, data) for data in files]
        while len(decoder._jpeg._waiting) < 12:
            sleep(0.001)
    assert calls == [12]
    for data, result in zip(files, results, strict=True):
        assert np.array_equal(result.result(), GpuDecoder(PREPROCESS).pixels(data))


def test_without_a_gpu_it_is_refused():
    if __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(
        EngineUnavailableError, match=r"--decode nvjpeg needs an NVIDIA GPU that PyTorch can use \(.+\); leave it"
    ):
        make_decoder(PREPROCESS, "exact", "nvjpeg")


def test_without_torchvision_it_is_refused(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    with pytest.raises(
        EngineUnavailableError, match=r"which cannot be imported \(.+\): pip install 'modelport\[export\]'"
    ):
        make_decoder(PREPROCESS, "fast", "nvjpeg")
