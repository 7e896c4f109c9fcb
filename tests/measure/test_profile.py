"""The operator profile: what is measured, what it adds up to, what is written, and what is refused."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from modelport import engines
from modelport.data.decode import Decoder
from modelport.data.source import open_source
from modelport.engines.session import SessionOptions
from modelport.errors import DataError, FormatError, InferenceError, OutputError
from modelport.graph.source import SOURCE_FILE
from modelport.host import environment
from modelport.measure.operators import describe_operators
from modelport.measure.profile import ProfileOptions, profile, real_batch
from modelport.offline import MANIFEST, OfflineModel
from modelport.results import OperatorFacts, ProfileResult

ENGINES = ["onnxruntime", "openvino"]
QUICK = ProfileOptions(rounds=2, warmup=1, peaks=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_result_says_what_was_measured(csp_profile, csp_model, engine):
    result = csp_profile(engine)

    assert (result.engine, result.batch_size, result.origin, result.input) == (engine, 2, "measured", "random")
    assert (result.rounds, result.warmup, result.blocks) == (6, 2, 6)
    assert len(result.latencies_s) == len(result.counting_s) == 6
    assert (result.where, result.model) == (str(csp_model(engine).path), csp_model(engine).manifest.model)
    assert (result.peaks, result.environment) == (None, environment())
    assert result.hygiene is not None
    assert all(len(operator.durations_us) == 6 for operator in result.operators)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_parts_add_up(csp_profile, engine):
    result = csp_profile(engine)

    assert result.operators_us + result.overhead_us == pytest.approx(result.latency_us)
    assert result.coverage == pytest.approx(result.operators_us / result.latency_us)
    assert sum(operator.share for operator in result.operators) == pytest.approx(1)
    assert sum(each.share for each in result.types) == pytest.approx(1)
    assert sum(each.count for each in result.types) == len(result.operators)
    rounds = np.array([operator.durations_us for operator in result.operators]).sum(axis=0)
    assert result.operators_us == pytest.approx(np.median(rounds))
    for operator in result.operators:
        assert operator.p10_us <= operator.duration_us <= operator.p90_us
        assert operator.duration_us == pytest.approx(np.median(operator.durations_us))


@pytest.mark.parametrize("target", ["onnxruntime-f32", "openvino-f32"])
def test_the_operators_add_up_to_the_latency_of_their_rounds(demo_directory, target):
    """On the digits network, within 10 %: of the same rounds, and of the block that was disturbed least between operators."""
    model = OfflineModel.load(demo_directory / target / "batch-8")
    ratios = []
    with engines.open_model(model, SessionOptions(profile=True)) as session:
        for _ in range(5):
            found = session.profile(session.random_batch(), warmup=2, rounds=4)
            ratios.append(found.durations_us.sum(axis=1).mean() / (np.mean(found.latencies_s) * 1e6))

    assert 0.9 <= max(ratios) <= 1.02


@pytest.mark.parametrize("target", ["onnxruntime-f32", "openvino-f32"])
def test_the_blocks_of_cspresnext_are_found(demo_directory, target):
    """All four stages' Split and Concat, and 6.15 GFLOP at 224 px, which are 0.50 at 64."""
    result = profile(demo_directory / target / "batch-1", options=QUICK)

    rewrites = [island.rewrite for island in result.islands]
    assert rewrites.count("split_convolutions") == rewrites.count("sum_concat_convolution") == 4
    assert all(len(island.source) == 1 for island in result.islands if island.rewrite == "split_convolutions")
    assert sum(operator.flops or 0 for operator in result.operators) == pytest.approx(
        6.15e9 * (64 / 224) ** 2, rel=0.01
    )
    sources = [name for operator in result.operators for name in operator.source]
    assert len(sources) == len(set(sources))
    assert sum(kind == "Conv" for operator in result.operators for kind in operator.source_types) == 55


@pytest.mark.parametrize("engine", ENGINES)
def test_it_is_written_whole_and_reads_back(csp_model, engine, tmp_path):
    result = profile(csp_model(engine), options=QUICK, output=tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "op_statistic_0_1.csv", "op_summary_0_1.csv", "profile.json", "trace.json",
    ]  # fmt: skip
    assert ProfileResult.read(tmp_path / "out" / "profile.json") == result
    document = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert (document["format"], document["format_version"]) == ("modelport.profile", 1)
    assert document["operators_us"] == result.operators_us
    assert document["operators"][0]["duration_us"] == result.operators[0].duration_us
    with pytest.raises(OutputError, match="exists already"):
        profile(csp_model(engine), options=QUICK, output=tmp_path / "out")
    again = profile(tmp_path / "out")  # our own CSV files are a profile too
    assert [each.name for each in again.operators] == [each.name for each in result.operators]


def test_peaks_give_every_operator_its_limit(csp_model):
    result = profile(csp_model("onnxruntime"), options=ProfileOptions(rounds=2, warmup=1))

    assert result.peaks is not None
    assert list(result.peaks.operations) == ["f32"]  # of what is executed only
    assert all(operator.limit_us is not None and operator.bound for operator in result.operators)


def test_real_images_are_the_batch(csp_model, tmp_path):
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    model = csp_model("onnxruntime")

    batch = real_batch(model, tmp_path)

    (sample,) = open_source(tmp_path)
    expected = np.empty((3, 32, 32), np.float32)
    Decoder(model.manifest.model.preprocess)(sample, sample.read(), expected)
    np.testing.assert_array_equal(batch, np.stack([expected] * 2))  # one image, repeated
    options = ProfileOptions(rounds=1, warmup=1, peaks=False, images=tmp_path)
    assert profile(model, options=options).input == str(tmp_path)


def test_a_bad_image_is_named(csp_model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"bad\.png: is not an image that Pillow can read"):
        real_batch(csp_model("onnxruntime"), tmp_path)


def test_progress_is_told(csp_model):
    told = []

    profile(csp_model("openvino"), options=QUICK, progress=lambda *words: told.append(words))

    assert told == [("profile openvino f32 batch 2", done, 2) for done in (1, 2)]


def test_gaps_and_medians_make_the_timeline():
    facts = [
        OperatorFacts(name=name, type="Add", kernel="k", precision=None, inputs=(), outputs=()) for name in ("a", "b")
    ]
    durations, gaps = (
        np.array([[10.0, 20.0], [30.0, 20.0], [11.0, 26.0]]),
        np.array([[1.0, 2.0], [1.0, 4.0], [3.0, 2.0]]),
    )

    first, second = describe_operators(facts, durations, gaps, None)
    assert (first.start_us, first.duration_us, second.start_us) == (1.0, 11.0, 14.0)
    assert (first.share, second.share) == (pytest.approx(11 / 31), pytest.approx(20 / 31))
    assert describe_operators(facts, durations, None, None)[1].start_us == 11.0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_of_an_earlier_version_is_profiled_without_onnx_names(csp_model, engine, tmp_path):
    path = shutil.copytree(csp_model(engine).path, tmp_path / "old")
    (path / SOURCE_FILE).unlink()
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["files"][SOURCE_FILE]
    (path / MANIFEST).write_text(json.dumps(manifest))

    result = profile(path, options=QUICK)

    assert not any(operator.source for operator in result.operators)
    assert "split_convolutions" in [island.rewrite for island in result.islands]


def test_an_engine_without_counters_is_refused(compiled, tmp_path):
    with pytest.raises(InferenceError, match="the null engine has no operator counters"):
        profile(compiled("null"), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_model_and_no_profile_is_refused(tmp_path):
    with pytest.raises(
        FormatError, match=re.escape(f"{tmp_path}: is neither an offline model (manifest.json) nor a folder with")
    ):
        profile(tmp_path)
    with pytest.raises(FormatError, match="is not an offline model"):
        profile(tmp_path / "absent")
    with pytest.raises(FormatError, match=r"absent\.csv: cannot be read: No such file"):
        profile(tmp_path / "absent.csv")


def test_an_onnx_file_is_for_csv_files(csp_model, csp_onnx):
    with pytest.raises(FormatError, match="is an offline model, which knows its ONNX graph; --onnx is for CSV files"):
        profile(csp_model("openvino"), options=ProfileOptions(onnx=csp_onnx))


@pytest.mark.parametrize(("rounds", "warmup"), [(0, 1), (1, 0)])
def test_impossible_counts_are_refused(rounds, warmup):
    with pytest.raises(ValueError, match=f"rounds and warmup must be at least 1, got {rounds} and {warmup}"):
        ProfileOptions(rounds=rounds, warmup=warmup)
