"""What holds for any input: valid documents are read back as they were written, everything else is refused in a line.

The inputs of every parser are those of `fuzz/`, mutated here with bounded effort; `make fuzz` has all day.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import models
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import documents
from fuzz.mutations import mutate
from fuzz.targets import TARGETS, TYPED, Target
from modelport.data.dump import read_scores, write_scores
from modelport.data.labels import label_key, read_labels
from modelport.data.op_csv import read_op_statistic, read_op_summary
from modelport.data.op_csv_writer import write_op_csv
from modelport.data.parts import open_parts
from modelport.data.predictions import Prediction, Predictions, as_table, schema, top_classes, writing
from modelport.data.source import Sample, Source, open_source
from modelport.graph import read_classifier
from modelport.graph.classifier import write_spec
from modelport.guide.info import write_bin_info
from modelport.guide.performance import PureInference, RealDataPerformance, write_performance
from modelport.measure.journal import journal
from modelport.recipe import Recipe, parse_override
from modelport.results import ProfileResult, SweepSubject, Trial
from modelport.spec import ModelSpec, Preprocess

settings.register_profile(
    "modelport",
    max_examples=40,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("modelport")

NAME = st.text("abcXYZ019-_é ", min_size=1, max_size=12).map(str.strip).filter(bool)
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
RATE = st.floats(1e-6, 1e12)


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's and Pillow's, of the figures and pixels of hostile files
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture(params=TARGETS.values(), ids=TARGETS)
def target(request) -> Target:
    if request.param.name in ("safetensors", "checkpoint"):
        pytest.importorskip("timm", reason="timm is not installed: pip install 'modelport[export]'")
    return request.param


# -- anything at all


def test_a_valid_input_is_read(target):
    target.parse(target.seeds()[0])


def test_a_valid_input_with_a_few_changes_is_read_or_refused_in_a_line(target):
    seeds = target.seeds()

    @given(st.sampled_from(seeds), st.randoms(use_true_random=True))
    def holds(seed: bytes, random: Random) -> None:
        refused_in_a_line(target, mutate(seed, random))

    holds()


def test_any_bytes_and_any_text_are_read_or_refused_in_a_line(target):
    @given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")))
    def holds(data: bytes) -> None:
        refused_in_a_line(target, data)

    holds()


def refused_in_a_line(target: Target, data: bytes) -> None:
    """The input is read, or the error has a type and a message."""
    message = None
    try:
        target.parse(data)
    except TYPED as error:
        message = str(error)
    assert message is None or message.strip()


# -- written and read back


@given(st.dictionaries(NAME.filter(lambda name: label_key(name) == name), st.integers(0, 999_999_999), min_size=1))
def test_labels(labels):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "val_label.txt"
        path.write_text("".join(f"{name}.JPEG {label}\n" for name, label in labels.items()), encoding="utf-8")
        assert read_labels(path) == labels


@given(st.lists(NAME, min_size=1, max_size=8, unique=True), st.integers(1, 9), st.integers(1, 9))
def test_info(names, width, height):
    with TemporaryDirectory() as folder:
        images = Path(folder) / "prepared images"
        images.mkdir()
        for name in names:
            (images / f"{name}.bin").write_bytes(bytes(width * height))
        write_bin_info(images, Path(folder) / "list.info", width, height)
        source = open_source(Path(folder) / "list.info")
        assert sorted(sample.origin.name for sample in source) == sorted(f"{name}.bin" for name in names)
        assert all(sample.origin.is_file() for sample in source)


@pytest.mark.parametrize("suffix", [".txt", ".bin", ".npy"])
@given(scores=st.lists(FLOAT32, min_size=1, max_size=50))
def test_score_dumps(suffix, scores):
    array = np.array(scores, np.float32)
    with TemporaryDirectory() as folder:
        write_scores(Path(folder), "image", 1, array, suffix)
        np.testing.assert_array_equal(read_scores(Path(folder) / f"image_1{suffix}"), array)


@given(st.lists(RATE, min_size=11, max_size=11))
def test_performance_to_six_digits(values):
    wanted = RealDataPerformance(**dict(zip(RealDataPerformance.__dataclass_fields__, values, strict=True)))
    pure = PureInference(rate=values[0], latency=values[1])
    for performance in (wanted, pure):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "performance.txt"
            write_performance(path, performance)
            again = type(performance).read(path)
            for name in performance.__dataclass_fields__:
                assert getattr(again, name) == pytest.approx(getattr(performance, name), rel=1e-5)


@given(st.lists(st.tuples(NAME, st.integers(1, 10**6)), min_size=1, max_size=6, unique_by=lambda pair: pair[0]))
def test_operator_profiles(operators):
    plain = documents.document(ProfileResult)
    one = plain["operators"][0]
    tensor = {"shape": [1, 3, 8, 8], "dtype": "f32", "layout": "NCHW", "constant": False}
    more = {"type": "Conv2D", "inputs": [tensor], "outputs": [tensor], "precision": "f32"}
    plain["operators"] = [one | more | {"name": name, "durations_us": [us / 1000]} for name, us in operators]
    result = ProfileResult.parse(plain | {"devices": [0]}, "document")
    with TemporaryDirectory() as folder:
        write_op_csv(result, Path(folder))
        found = read_op_summary(Path(folder))
        totals = read_op_statistic(Path(folder))
    assert [each.name for each in found.operators] == [name for name, _ in operators]
    assert [duration for (duration,) in found.durations_us] == [us / 1000 for _, us in operators]
    assert [each.inputs[0].shape for each in found.operators] == [(1, 3, 8, 8)] * len(operators)
    assert totals == {"Conv2D": pytest.approx(sum(us for _, us in operators) / 1000, abs=1e-3)}


SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | NAME


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3)))
def test_overrides(value):
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n")
    assert parse_override(f"performance.rounds={text}") == ("performance.rounds", value)


@given(st.integers(1, 10**6), st.floats(0, 100), st.sampled_from(["openvino", "onnxruntime"]), NAME)
def test_recipes(rounds, tolerance, engine, name):
    plain = documents.document(Recipe) | {"name": name, "targets": [{"engine": engine, "precision": "bf16"}]}
    plain["performance"]["rounds"], plain["accuracy"]["tolerance_points"] = rounds, tolerance
    plain["model"]["checkpoint"] = plain["data"]["images"] = plain["calibration"]["images"] = "/somewhere"
    plain["data"]["labels"] = plain["calibration"]["labels"] = plain["model"]["class_names"] = None
    wanted = Recipe.parse(plain, "document")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(yaml.safe_dump(wanted.jsonable()))
        assert Recipe.load(path) == wanted
        assert Recipe.load(path, {"performance.rounds": 7}).performance.rounds == 7


@given(st.lists(st.lists(FLOAT32, min_size=3, max_size=3) | NAME, min_size=1, max_size=20), st.booleans())
def test_predictions(images, all_scores):
    """Scores, or the reason why there are none."""
    rows = [prediction(f"{number}.png", found) for number, found in enumerate(images)]
    columns = schema(3, all_scores=all_scores)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.parquet"
        with writing(path, columns) as writer:
            writer.write(as_table(rows, columns))
        found = Predictions.read(path)
    assert found.keys == [row.sample.key for row in rows]
    assert found.errors == [row.error for row in rows]
    for place, row in enumerate(rows):
        assert found.top[place].tolist() == [*row.top, *[-1] * (5 - len(row.top))]
    assert (found.scores is not None) == all_scores
    if found.scores is not None:
        for scores, row in zip(found.scores, rows, strict=True):
            np.testing.assert_array_equal(scores, [np.nan] * 3 if row.scores is None else row.scores)


def prediction(key: str, found: list[float] | str) -> Prediction:
    sample, nothing = Sample(key, Path(key), 1), np.empty(0, np.int32)
    if isinstance(found, str):
        return Prediction(sample, nothing, nothing, None, found)
    scores = np.array(found, np.float32)
    top = top_classes(scores[None])[0]
    return Prediction(sample, top, scores[top], scores, content=bytes(32))


@settings(max_examples=12)  # every commit is made durable, which takes its time
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_parts_are_taken_up(sizes):
    """What is committed is what the next run has."""
    with TemporaryDirectory() as folder:
        output, images = Path(folder) / "run", Path(folder) / "images"
        images.mkdir()
        paths = [images / f"{number:02}.bin" for number in range(sum(sizes))]
        for path in paths:
            path.write_bytes(path.name.encode())
        source = Source(str(images), tuple(Sample(path.name, path) for path in paths))
        rows = [prediction_of(sample) for sample in source]
        with open_parts(output, {"model": "a"}, "predictions.parquet") as parts:
            start = 0
            for size in sizes:
                parts.commit(start, rows[start : start + size], schema(3, all_scores=False), 0.5)
                start += size
        with open_parts(output, {"model": "a"}, "predictions.parquet") as parts:
            parts.take_up(source, 1)
            assert parts.holes(len(source)) == []
            assert [key for table in parts.tables(source) for key in table["key"].to_pylist()] == [
                s.key for s in source
            ]
            assert parts.spent == (len(source), 0.5 * len(sizes))
        with open_parts(output, {"model": "b"}, "predictions.parquet") as parts:
            assert parts.differences == ["model"]


def prediction_of(sample: Sample) -> Prediction:
    scores = np.float32([1, 2, 3])
    top = top_classes(scores[None])[0]
    return Prediction(sample, top, scores[top], None, content=sample.content())


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6, unique=True), RATE)
def test_trials_are_taken_up(repeats, seconds):
    subject = SweepSubject.parse(documents.document(SweepSubject), "document")
    one = Trial.parse(documents.document(Trial), "document")
    trials = [one.model_copy(update={"repeat": repeat, "wall_s": seconds}) for repeat in repeats]
    with TemporaryDirectory() as folder:
        with journal(Path(folder) / "sweep", subject) as opened:
            for trial in trials:
                opened.add(trial)
        with journal(Path(folder) / "sweep", subject) as opened:
            assert not opened.anew
            assert list(opened.trials.values()) == trials


@given(st.floats(0.1, 2), st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(0.01, 9)] * 3), NAME)
def test_metadata_of_onnx_files(crop_pct, mean, std, arch):
    preprocess = Preprocess(input_size=models.SIZE, crop_pct=crop_pct, mean=mean, std=std)
    spec = ModelSpec(arch=arch, num_classes=models.CLASSES, preprocess=preprocess)
    with TemporaryDirectory() as folder:
        path = models.save(models.classifier(spec=None), Path(folder) / "model.onnx")
        write_spec(path, spec)
        assert read_classifier(path).spec == spec
        assert read_classifier(path).resolve_spec(None) == spec


def test_documents_are_valid_json_of_every_field():
    """The seeds leave nothing out."""
    assert json.loads(documents.text(ModelSpec)).keys() == ModelSpec.model_fields.keys()
