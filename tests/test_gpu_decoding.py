"""`infer --decode nvjpeg`: what it changes is measured and told, and the stages say that decoding limits; here on the processor."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from modelport.cli import cli
from modelport.data import gpu_jpeg
from modelport.data.decode import Decoder
from modelport.engines.session import SessionOptions
from modelport.inference import infer
from modelport.packing import PackOptions, pack
from modelport.pipeline import PipelineOptions
from modelport.results import InferResult
from modelport.work import InferOptions

pytest.importorskip("torchvision")
COUNT = 10


@pytest.fixture
def images(tmp_path):
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return folder


@pytest.fixture
def on_processor(monkeypatch):
    monkeypatch.setattr(gpu_jpeg, "DEVICE", "cpu")


def options(**how: object) -> InferOptions:
    pipeline = PipelineOptions(decoders=4, keep_scores=True)
    return InferOptions(session=SessionOptions(streams=1), pipeline=pipeline, decoding="nvjpeg", **how)


def test_the_result_says_how_near_it_came(compiled, images, tmp_path, on_processor):
    result = infer(compiled("onnxruntime", 4), images, tmp_path / "out", options=options())
    check = result.fast_check
    assert (result.decoding, result.preprocessing, check.images) == ("nvjpeg", "exact", COUNT)
    assert check.largest_difference <= 4
    assert InferResult.read(tmp_path / "out" / "infer.json") == result


def test_other_pixels_are_measured_and_other_decisions_counted(compiled, images, tmp_path, on_processor, monkeypatch):
    inverted = gpu_jpeg.decode_all
    monkeypatch.setattr(gpu_jpeg, "decode_all", lambda files, mode: [255 - image for image in inverted(files, mode)])
    model = compiled("onnxruntime", 4)
    result = infer(model, images, tmp_path / "out", options=options(preprocessing="fast"))

    exact = infer(model, images, tmp_path / "exact", options=InferOptions(session=SessionOptions(streams=1)))
    decided = [decisions(tmp_path / name) for name in ("out", "exact")]
    assert result.fast_check.largest_difference > 50
    assert result.fast_check.changed == sum(a != b for a, b in zip(*decided, strict=True)) > 0
    assert (exact.decoding, exact.fast_check) == ("cpu", None)


def decisions(output) -> list[int]:
    import pyarrow.parquet as pq

    return [row["top"][0] for row in pq.read_table(output / "predictions.parquet").to_pylist()]


def test_where_decoding_is_slow_it_is_said_to_limit(compiled, images, tmp_path, on_processor, monkeypatch):
    import time

    decode_all = gpu_jpeg.decode_all

    def slow(files, mode):
        time.sleep(0.05)
        return decode_all(files, mode)

    monkeypatch.setattr(gpu_jpeg, "decode_all", slow)
    result = infer(compiled("null", 4), images, tmp_path / "out", options=options())
    assert result.limiting_stage.name == "decode"
    (stage,) = [stage for stage in result.stages if stage.name == "decode"]
    assert not stage.on_cores
    assert stage.capacity(64) < 1000  # from its busy time, for it waits: processor time says nothing of the GPU


def test_pixels_from_shards_go_into_a_uint8_model_undecoded(images, tiny_onnx, tmp_path, monkeypatch):
    import models

    from modelport.engines.base import CompileOptions
    from modelport.engines.compiler import compile_model

    model = compile_model(
        tiny_onnx, tmp_path / "model", engine="onnxruntime", options=CompileOptions(batch_size=4, input_dtype="uint8")
    )
    pack(images, tmp_path / "pixels", options=PackOptions(pixels=models.PREPROCESS))
    one_stream = InferOptions(session=SessionOptions(streams=1), pipeline=PipelineOptions(keep_scores=True))
    infer(model, images, tmp_path / "from-images", options=one_stream)

    def decodes(*_):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(Decoder, "pixels", decodes)
    monkeypatch.setattr(Decoder, "normalize", decodes)
    result = infer(model, tmp_path / "pixels", tmp_path / "from-pixels", options=one_stream)
    assert result.failures == 0
    assert decisions(tmp_path / "from-pixels") == decisions(tmp_path / "from-images")


class TestCommand:
    def run(self, *words: object):
        return CliRunner().invoke(cli, ["infer", *map(str, words)])

    def test_it_tells_what_it_changed(self, compiled, images, tmp_path, on_processor):
        model = compiled("onnxruntime", 4).path
        done = self.run(model, "--images", images, "--decode", "nvjpeg", "--preprocess", "fast", "-o", tmp_path / "out")
        assert done.exit_code == 0, done.output
        assert f"fast and JPEG decoded by nvJPEG: against the exact path, on {COUNT} images" in done.output

    def test_without_a_gpu_nothing_is_made(self, compiled, images, tmp_path):
        if __import__("torch").cuda.is_available():
            pytest.skip("there is a GPU here")
        done = self.run(compiled("null", 4).path, "--images", images, "--decode", "nvjpeg", "-o", tmp_path / "out")
        assert done.exit_code != 0
        assert "--decode nvjpeg needs an NVIDIA GPU" in (done.output + str(done.exception))
        assert not (tmp_path / "out").exists()

    def test_a_cluster_decodes_for_itself(self, compiled, images, tmp_path):
        model = compiled("null", 4).path
        done = self.run(model, "--images", images, "--decode", "nvjpeg", "--on", "ray", "-o", tmp_path / "out")
        assert done.exit_code == 2
        assert "--decode nvjpeg is for --on here" in done.output
