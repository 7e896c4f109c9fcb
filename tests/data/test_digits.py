"""The demo's data set: a fixed, disjoint split of labelled PNG that the reference path leaves as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.data.decode import Decoder
from modelport.data.digits import HELD_OUT, PREPROCESS, SIZE, load_digits, write_digits
from modelport.data.labels import read_labels
from modelport.data.source import open_source
from modelport.errors import DataError, ModelportError

datasets = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("digits") / "deep" / "digits"
    assert write_digits(directory) == (directory / "train", directory / "val")
    return directory


def test_every_scan_is_in_exactly_one_part(written):
    assert len(open_source(written / "val")) == HELD_OUT
    assert len(open_source(written / "train")) == 1797 - HELD_OUT
    images, _ = load_digits()
    stored = [
        np.asarray(Image.open(sample.origin)).tobytes()
        for part in ("train", "val")
        for sample in open_source(written / part)
    ]
    assert sorted(stored) == sorted(image.tobytes() for image in images)


@pytest.mark.parametrize("part", ["train", "val"])
def test_labels_belong_to_their_images(written, part):
    images, digits = load_digits()
    digit_of = {image.tobytes(): int(digit) for image, digit in zip(images, digits, strict=True)}
    source = open_source(written / part).labelled(read_labels(written / f"{part}_label.txt"))
    assert [sample.label for sample in source] == [
        digit_of[np.asarray(Image.open(sample.origin)).tobytes()] for sample in source
    ]
    assert {sample.label for sample in source} == set(range(10))


def test_names_are_like_imagenets(written):
    assert open_source(written / "val").samples[0].key == "DIGITS_val_00000001.png"
    assert (written / "val_label.txt").read_text().splitlines()[0].startswith("DIGITS_val_00000001.png ")


def test_scans_are_enlarged_not_changed():
    images, digits = load_digits()
    assert (images.shape, images.dtype) == ((1797, SIZE, SIZE), np.uint8)
    original = datasets.load_digits()
    assert digits.tolist() == original.target.tolist()
    small = images.reshape(1797, 8, 8, 8, 8).mean(axis=(2, 4))
    assert np.corrcoef(small.ravel(), original.images.ravel())[0, 1] > 0.98


def test_preprocess_neither_resizes_nor_crops(written):
    sample = open_source(written / "val").samples[0]
    pixels = Decoder(PREPROCESS).pixels(sample.read())
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(sample.origin).convert("RGB")))


def test_a_complete_set_is_kept(written):
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    write_digits(written)
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_an_interrupted_set_is_completed_the_same_way(written, monkeypatch, tmp_path):
    """What a killed process leaves, a folder with some of the images, must not pass for the data set."""
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "DIGITS_val_00000001.png").write_bytes(b"half")
    write_digits(tmp_path)
    for part in ("train", "val"):
        ours, theirs = open_source(tmp_path / part), open_source(written / part)
        assert [s.read() for s in ours] == [s.read() for s in theirs]
        assert read_labels(tmp_path / f"{part}_label.txt") == read_labels(written / f"{part}_label.txt")


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"comes with scikit-learn: pip install 'modelport\[demo\]'"):
        load_digits()


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelportError, match=r"cannot write .*file"):
        write_digits(tmp_path / "file" / "digits")
