"""Documents that were made to exhaust memory, time or patience: each is one error in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelport import limits
from modelport.data.dump import read_dump, read_scores
from modelport.data.labels import read_labels
from modelport.data.op_csv import read_op_summary
from modelport.errors import FormatError
from modelport.offline import MANIFEST, OfflineModel
from modelport.recipe import Recipe, parse_override
from modelport.results import RunResult
from modelport.schema import read_text, read_yaml
from modelport.spec import ModelSpec, Preprocess


def laughs(merge: bool) -> str:
    """A YAML text of a few hundred bytes whose aliases, or merged mappings, stand for ten to the tenth values."""
    first = "a0: &a0 {x: 1}\n" if merge else "a0: &a0 [lol]\n"
    item = "{{<<: [{}]}}" if merge else "[{}]"
    return first + "".join(
        f"a{level}: &a{level} {item.format(', '.join([f'*a{level - 1}'] * 10))}\n" for level in range(1, 11)
    )


@pytest.mark.parametrize("merge", [False, True], ids=["aliases", "merges"])
def test_yaml_that_multiplies_is_refused_before_it_is_built(tmp_path, merge):
    (tmp_path / "a.yaml").write_text(laughs(merge))
    with pytest.raises(FormatError, match=r"a\.yaml: not valid YAML: its aliases stand for .* more than 100,000"):
        Recipe.load(tmp_path / "a.yaml")
    with pytest.raises(FormatError, match="its aliases stand for"):
        parse_override("name=[&a [x,x,x,x,x,x,x,x,x,x], " + "".join(
            f"&{b} [{','.join(['*' + a] * 10)}], " for a, b in zip("abcde", "bcdef", strict=True)) + "1]")  # fmt: skip


def test_yaml_in_measure_may_use_aliases_and_merges(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize("text", ["[" * 50_000, "a: " * 20_000, "{" * 50_000, "? " * 50_000])
def test_yaml_nested_deep_is_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(FormatError, match=r"a\.yaml: not valid YAML"):
        read_yaml(tmp_path / "a.yaml")


def test_a_yaml_document_beyond_the_limit_is_not_read(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"#" * (limits.YAML_BYTES + 1))
    with pytest.raises(
        FormatError, match=r"a\.yaml: cannot be read: has more than 4,194,304 bytes, the most that is read"
    ):
        read_yaml(tmp_path / "a.yaml")


def test_a_text_beyond_the_limit_is_not_read(tmp_path):
    with open(tmp_path / "labels.txt", "wb") as file:
        file.truncate(limits.TEXT_BYTES + 1)
    with pytest.raises(FormatError, match=r"labels\.txt: cannot be read: has more than 536,870,912 bytes"):
        read_labels(tmp_path / "labels.txt")


def test_a_device_is_no_text():
    with pytest.raises(FormatError, match="/dev/zero: cannot be read: is a pipe, a socket or a device, not a file"):
        read_text("/dev/zero")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, '{"format_version": ' + "9" * 10_000 + "}"]
)
@pytest.mark.parametrize(
    "read", [RunResult.read, lambda path: OfflineModel.load(path.parent)], ids=["result", "manifest"]
)
def test_json_nested_deep_or_with_endless_numbers_is_refused(tmp_path, text, read):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(
        FormatError, match=r"manifest\.json: .*(not valid JSON|input should be|Input should be|unknown key)"
    ) as caught:
        read(tmp_path / MANIFEST)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a" * 20_000 + " 1", r"labels\.txt:1: has 20,002 characters, more than 16,384"),
        ("a.png " + "9" * 5_000, r"labels\.txt:1: expected `name class`"),
        ("a.png 1 \x1b[2J", r"labels\.txt:1: expected `name class` .*'a\.png 1 \\x1b\[2J'"),
    ],
)
def test_lines_of_labels_have_a_length(tmp_path, line, message):
    (tmp_path / "labels.txt").write_text(line)
    with pytest.raises(FormatError, match=message):
        read_labels(tmp_path / "labels.txt")


def test_label_files_in_json_are_held_to_the_same(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(FormatError, match=r"a\.json: not valid JSON: maximum recursion depth"):
        read_labels(tmp_path)


def test_a_csv_cell_has_a_size(tmp_path):
    (tmp_path / "op_summary_0_1.csv").write_text("Op Name,OP Type,Task Duration(us)\n" + "a" * 200_000 + ",Conv,1\n")
    with pytest.raises(FormatError, match="is not CSV: field larger than field limit"):
        read_op_summary(tmp_path / "op_summary_0_1.csv")


class TestScores:
    def test_a_shape_beyond_the_files_size(self, tmp_path):
        """NumPy would set aside eight terabytes."""
        with open(tmp_path / "a_0.npy", "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 41,)}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(40))
        with pytest.raises(FormatError, match=r"a_0\.npy: cannot be read as a NumPy array"):
            read_scores(tmp_path / "a_0.npy")

    def test_pickled_objects(self, tmp_path):
        np.save(tmp_path / "a_0.npy", np.array([{}], dtype=object), allow_pickle=True)
        with pytest.raises(FormatError, match=r"a_0\.npy: cannot be read as a NumPy array"):
            read_scores(tmp_path / "a_0.npy")

    def test_an_archive(self, tmp_path):
        np.savez(tmp_path / "a_0.npz", a=np.zeros(3))
        (tmp_path / "a_0.npz").rename(tmp_path / "a_0.npy")
        with pytest.raises(FormatError, match=r"a_0\.npy: is an archive of arrays, expected one array"):
            read_scores(tmp_path / "a_0.npy")

    def test_a_file_beyond_the_limit(self, tmp_path):
        with open(tmp_path / "a_1.bin", "wb") as file:
            file.truncate(limits.SCORES_BYTES + 4)
        with pytest.raises(FormatError, match="is larger than 64 MiB, which no image's scores are"):
            read_dump(tmp_path)


class TestManifest:
    @pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/b", "..", ".", "", "..\\escape", "manifest.json"])
    def test_no_name_leaves_the_directory(self, copied, name):
        path = copied("null")
        data = json.loads((path / MANIFEST).read_text())
        data["files"][name] = "0" * 64
        (path / MANIFEST).write_text(json.dumps(data))
        with pytest.raises(FormatError, match="is not a plain file name inside the offline model"):
            OfflineModel.load(path)

    def test_a_link_is_refused(self, copied):
        path = copied("null")
        (path / "null.txt").rename(path.parent / "elsewhere.txt")
        (path / "null.txt").symlink_to(path.parent / "elsewhere.txt")
        with pytest.raises(FormatError, match=r"'null\.txt' is a link, and an offline model holds its own files"):
            OfflineModel.load(path)

    @pytest.mark.parametrize("shape", [[1 << 40, 3, 16, 12], [0, 3, 16, 12], [-1, 3, 16, 12], []])
    def test_a_batch_that_no_memory_holds_is_refused(self, copied, shape):
        path = copied("null")
        data = json.loads((path / MANIFEST).read_text())
        data["input"]["shape"] = shape
        (path / MANIFEST).write_text(json.dumps(data))
        with pytest.raises(FormatError, match=r"manifest\.json: input: 'image' has shape .*, which no batch"):
            OfflineModel.load(path)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Preprocess.parse({"input_size": [3, 1 << 20, 1 << 20]}, "here"),
        lambda: ModelSpec.parse({"arch": "a", "num_classes": 1 << 40, "preprocess": {"input_size": [3, 8, 8]}}, "here"),
    ],
    ids=["pixels", "classes"],
)
def test_a_network_of_absurd_size_is_refused(build):
    with pytest.raises(FormatError, match=r"here: .* less than or equal to"):
        build()
