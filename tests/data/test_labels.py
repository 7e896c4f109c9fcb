"""Label files: what is read, under which key, and which line is to blame."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.data.labels import label_key, read_labels, require_in_range
from modelport.errors import DataError, FormatError


@pytest.fixture
def label_file(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "val_label.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000001"),
        ("a.b.c.jpg", "a"),
        ("plain", "plain"),
        ("n01440764/a.b.jpg", "n01440764/a"),
        ("v1.0/a.jpg", "v1.0/a"),
        ("x/y.z/a.jpg", "x/y.z/a"),
        ("with space.png", "with space"),
    ],
)
def test_label_key_is_the_name_up_to_the_first_dot_with_its_folder(name, key):
    assert label_key(name) == key


def test_the_guides_format(label_file):
    path = label_file("ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n")
    assert read_labels(path) == {"ILSVRC2012_val_00000001": 65, "ILSVRC2012_val_00000002": 970}
    assert read_labels(str(path)) == read_labels(path)


@pytest.mark.parametrize(
    "content",
    [
        "a.png 0\nb.png 12",
        "a 0\nb 12\n",
        "\na.png 0\n\n  \nb.png 12\n\n",
        "a.png 0\r\nb.png 12\r\n",
        " a.png 0 \nb.png  12\n",
    ],
    ids=["no last newline", "no suffix", "blank lines", "windows", "stray spaces"],
)
def test_variants_that_are_accepted(label_file, content):
    assert read_labels(label_file(content)) == {"a": 0, "b": 12}


def test_names_with_spaces_and_folders(label_file):
    assert read_labels(label_file("my cat.png 3\ndog/1.png 4\n")) == {"my cat": 3, "dog/1": 4}


@pytest.mark.parametrize("line", ["b.png", "b.png x", "b.png -1", "b.png 1.5", "7", "b.png 1,", "b.png\t1"])
def test_malformed_line_is_named(label_file, line):
    shown = repr(line)[1:-1].replace("\\", "\\\\")
    with pytest.raises(
        FormatError, match=rf"val_label\.txt:3: expected `name class` with a class from 0, got '{shown}'"
    ):
        read_labels(label_file(f"a.png 0\n\n{line}\n"))


@pytest.mark.parametrize("again", ["a.png 1", "a.png 0", "a.jpg 1"])
def test_duplicate_is_named(label_file, again):
    with pytest.raises(FormatError, match=r"val_label\.txt:3: 'a' is labelled a second time"):
        read_labels(label_file(f"a.png 0\nb.png 0\n{again}\n"))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file(label_file, content):
    with pytest.raises(FormatError, match=r"val_label\.txt: holds no labels; expected lines of `name class`"):
        read_labels(label_file(content))


def test_missing_file(tmp_path):
    with pytest.raises(FormatError, match=r"absent\.txt: cannot be read: No such file or directory"):
        read_labels(tmp_path / "absent.txt")


def test_not_utf8(label_file):
    with pytest.raises(FormatError, match=r"val_label\.txt: is not UTF-8 text \(byte 3\)"):
        read_labels(label_file(b"caf\xe9 1\n"))


def test_labels_within_the_models_classes():
    require_in_range({"a": 0, "b": 9}, 10, "labels.txt")


def test_label_out_of_range_is_named():
    with pytest.raises(DataError, match=r"^labels\.txt: 'b' has label 10, the model has classes 0 to 9; .*from 0\?$"):
        require_in_range({"a": 0, "b": 10, "c": 3}, 10, "labels.txt")
