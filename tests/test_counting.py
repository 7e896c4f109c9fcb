"""Counting what lies in parts: the figures of one file, by class and by pair, in memory that does not grow with the images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from modelport.accuracy import evaluate
from modelport.cli import cli
from modelport.data.predictions import schema
from modelport.errors import DataError, FormatError

CLASSES = 7


def write_part(path: Path, first: int, labels: np.ndarray, tops: np.ndarray, classes: int = CLASSES) -> None:
    """Predictions of images `first`, `first + 1`, …; a first class of -1 is an image that failed."""
    failed = tops[:, 0] < 0
    columns = {
        "key": [f"{number:09}.png" for number in range(first, first + len(labels))],
        "label": [None if label < 0 else int(label) for label in labels],
        "top": [[] if bad else top.tolist() for top, bad in zip(tops, failed, strict=True)],
        "top_scores": [[] if bad else [0.0] * tops.shape[1] for bad in failed],
        "error": ["is damaged" if bad else None for bad in failed],
        "sha256": [None] * len(labels),
    }
    pq.write_table(pa.table(columns, schema=schema(classes, all_scores=False)), path)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Labels and first five classes of 5000 images; some without a label, some that failed."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, CLASSES, 5000)
    tops = np.argsort(rng.random((5000, CLASSES)) - 0.4 * np.eye(CLASSES)[labels], axis=1)[:, :5]
    labels[::50], tops[7::90] = -1, -1
    return labels, tops


@pytest.fixture
def parts(drawn, tmp_path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, start in enumerate(range(0, 5000, 1800)):
        write_part(folder / f"part-{number}.parquet", start, drawn[0][start:][:1800], drawn[1][start:][:1800])
    return folder


def test_figures_are_those_of_plain_loops(parts, drawn):
    labels, tops = drawn
    known = [(int(label), top.tolist()) for label, top in zip(labels, tops, strict=True) if label >= 0]
    good = [(label, top) for label, top in known if top[0] >= 0]

    found = evaluate(parts)

    assert found.hits == tuple(sum(label in top[:n] for label, top in good) for n in range(1, 6))
    assert (found.images, found.failed, found.extra) == (len(known), len(known) - len(good), int((labels < 0).sum()))
    by_class = {c.label: (c.images, c.top1, c.top5) for c in found.worst_classes}
    assert by_class == {
        c: (
            sum(label == c for label, _ in known),
            sum(label == c == top[0] for label, top in good),
            sum(label == c and c in top for label, top in good),
        )
        for c in range(CLASSES)
    }
    shares = [c.top1 / c.images for c in found.worst_classes]
    assert shares == sorted(shares)
    assert found.mean_class_top1 == pytest.approx(np.mean(shares))
    for pair in found.most_confused:
        assert pair.images == sum(label == pair.label and top[0] == pair.predicted for label, top in good)
        assert pair.label != pair.predicted
    assert len(found.most_confused) == 20
    assert [pair.images for pair in found.most_confused] == sorted(
        (p.images for p in found.most_confused), reverse=True
    )


def test_parts_a_pattern_and_one_file_agree(parts, drawn, tmp_path):
    write_part(tmp_path / "whole.parquet", 0, *drawn)
    whole = evaluate(tmp_path / "whole.parquet")
    assert evaluate(parts) == whole
    assert evaluate(parts / "part-?.parquet") == whole


def test_a_label_file_goes_before_the_predictions_own(parts, tmp_path):
    (tmp_path / "labels.txt").write_text("000000001.png 0\n000004999.png 1\nabsent.png 2\n")
    found = evaluate(parts, tmp_path / "labels.txt")
    assert (found.images, found.missing, found.extra) == (3, 1, 4998)
    assert found.first_missing == ("absent",)


def test_an_image_in_two_parts_is_refused_and_both_are_named(parts, drawn):
    write_part(parts / "part-9.parquet", 1799, drawn[0][1799:1801], drawn[1][1799:1801])
    with pytest.raises(
        DataError, match=r"'000001799' is predicted twice, in .*part-0\.parquet and in .*part-9\.parquet"
    ):
        evaluate(parts)


def test_parts_of_two_models_are_refused(parts, drawn):
    write_part(parts / "part-9.parquet", 9000, drawn[0][:3], drawn[1][:3], classes=9)
    with pytest.raises(
        FormatError, match=r"part-9\.parquet: is of a model with 9 classes, .*part-0\.parquet of one with 7"
    ):
        evaluate(parts)


def test_a_damaged_part_is_named(parts):
    path = parts / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match=r"part-1\.parquet: is not a predictions file"):
        evaluate(parts)


def test_a_label_beyond_the_model_is_named(parts, drawn):
    write_part(parts / "part-9.parquet", 9000, np.array([7]), drawn[1][:1])
    with pytest.raises(DataError, match=r"'000009000\.png' has label 7, the model has classes 0 to 6"):
        evaluate(parts)


def test_the_command_line_shows_classes_and_pairs(parts, tmp_path):
    shown = CliRunner().invoke(cli, ["evaluate", str(parts), "-o", str(tmp_path / "result.json")])
    assert shown.exit_code == 0, shown.output
    assert "Worst classes" in shown.output
    assert "taken for" in shown.output
    assert len(json.loads((tmp_path / "result.accuracy.json").read_text())["worst_classes"]) == CLASSES


MEASURED = """
import json, resource, sys
from modelport.accuracy import evaluate
evaluate(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = evaluate(sys.argv[2])
print(json.dumps([found.images, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


def test_two_million_images_take_no_more_memory_than_a_few(tmp_path):
    rows, classes = 200_000, 1000
    rng = np.random.default_rng(0)
    tops = rng.integers(0, classes, (rows, 5)).astype(np.int32)
    for number in range(10):
        keys = pa.array(np.char.mod("%09d.JPEG", np.arange(number * rows, (number + 1) * rows)))
        offsets = pa.array(np.arange(0, 5 * rows + 1, 5, dtype=np.int32))
        table = pa.table(
            {
                "key": keys,
                "label": pa.array(rng.integers(0, classes, rows).astype(np.int32)),
                "top": pa.ListArray.from_arrays(offsets, pa.array(tops.ravel())),
                "top_scores": pa.ListArray.from_arrays(offsets, pa.array(np.zeros(5 * rows, np.float32))),
                "error": pa.nulls(rows, pa.string()),
                "sha256": pa.nulls(rows, pa.binary(32)),
            }
        ).cast(schema(classes, all_scores=False))
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=4096)
    few = tmp_path / "few"
    few.mkdir()
    pq.write_table(table, few / "9.parquet", row_group_size=4096)

    child = subprocess.run([sys.executable, "-c", MEASURED, few, tmp_path], capture_output=True, text=True, check=True)

    images, grown_kb = json.loads(child.stdout)
    assert images == 2_000_000
    # Names are told apart by 16 MB, pairs of classes counted in 16 MB; loaded whole they take some hundred MB.
    assert grown_kb < 100_000


def test_the_whole_matrix_of_confusion_up_to_a_hundred_classes(parts, drawn, tmp_path):
    labels, tops = drawn
    expected = np.zeros((CLASSES, CLASSES), int)
    for label, top in zip(labels, tops, strict=True):
        if label >= 0 and top[0] >= 0:
            expected[label, top[0]] += 1

    assert np.array_equal(evaluate(parts).matrix, expected)
    write_part(tmp_path / "many.parquet", 0, labels[:10], tops[:10], classes=101)
    assert evaluate(tmp_path / "many.parquet").matrix == ()
