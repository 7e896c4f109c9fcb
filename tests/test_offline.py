"""OfflineModel: saved whole or not at all, and refused where anything in its directory differs from its manifest."""

from __future__ import annotations

import json

import pytest

from modelport.errors import FormatError, OutputError
from modelport.offline import FORMAT_VERSION, MANIFEST, Manifest, OfflineModel


@pytest.fixture
def directory(copied):
    """A copy of an offline model, to be tampered with."""
    return copied("null")


@pytest.fixture
def edit(directory):
    """`edit(change)`: let `change` rework the manifest's plain values in place."""

    def apply(change) -> None:
        path = directory / MANIFEST
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return apply


def test_loads_what_was_saved(directory, compiled):
    model = OfflineModel.load(directory)

    assert model.path == directory
    assert model.manifest == compiled("null").manifest
    assert model.tensors == (model.manifest.input, model.manifest.output)
    assert model.file("null.txt") == directory / "null.txt"


def test_a_file_that_the_manifest_does_not_list_is_not_given_out(directory):
    with pytest.raises(FormatError, match=r"the manifest lists no file 'model\.blob'; compile the model again"):
        OfflineModel.load(directory).file("model.blob")


def test_the_manifest_is_readable_json_that_names_its_format(directory):
    data = json.loads((directory / MANIFEST).read_text())

    assert (data["format"], data["format_version"]) == ("modelport.offline-model", 1)
    assert data["precision"] == {"requested": "f32", "executed": "f32", "rest": None}
    assert data["input"]["shape"] == [1, 3, 16, 12]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda path: None, "does not exist", id="absent"),
        pytest.param(lambda path: path.write_text("x"), "is not a directory", id="file"),
        pytest.param(lambda path: path.mkdir(), "has no manifest.json", id="empty"),
    ],
)
def test_what_is_no_offline_model_is_refused(tmp_path, make, reason):
    path = tmp_path / "model"
    make(path)

    with pytest.raises(
        FormatError, match=rf"model: is not an offline model \({reason}\); `modelport compile` makes one"
    ):
        OfflineModel.load(path)


def test_an_edited_file_is_refused(directory):
    (directory / "null.txt").write_text("something else\n")

    with pytest.raises(
        FormatError, match=r"null\.txt: was changed since it was compiled \(sha256 .*, manifest .*\); compile the model"
    ):
        OfflineModel.load(directory)


def test_a_missing_file_is_refused(directory):
    (directory / "null.txt").unlink()

    with pytest.raises(FormatError, match=r"null\.txt is missing; compile the model again"):
        OfflineModel.load(directory)


def test_an_extra_file_is_refused(directory):
    (directory / "notes.txt").write_text("hello")

    with pytest.raises(FormatError, match=r"holds 'notes\.txt', which its manifest does not list"):
        OfflineModel.load(directory)


def test_a_directory_in_place_of_a_file_is_refused(directory):
    (directory / "null.txt").unlink()
    (directory / "null.txt").mkdir()

    with pytest.raises(FormatError, match=r"null\.txt"):
        OfflineModel.load(directory)


@pytest.mark.parametrize("content", ["{", "", "no JSON at all"])
def test_a_manifest_that_is_not_json_is_refused(directory, content):
    (directory / MANIFEST).write_text(content)

    with pytest.raises(FormatError, match=r"manifest\.json: not valid JSON: "):
        OfflineModel.load(directory)


def test_a_manifest_that_is_not_text_is_refused(directory):
    (directory / MANIFEST).write_bytes(b"\xff\xfe\x00")

    with pytest.raises(FormatError, match=r"manifest\.json: is not UTF-8 text"):
        OfflineModel.load(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda data: data.update(format_version=0), r"format_version: .*1 or 2, got 0", id="older"),
        pytest.param(
            lambda data: data.update(format="tarball"), "format: .*modelport.offline-model", id="another format"
        ),
        pytest.param(lambda data: data.pop("batch_size"), "batch_size: is required", id="missing key"),
        pytest.param(
            lambda data: data.update(batchsize=1), "batchsize: unknown key, did you mean 'batch_size'", id="typo"
        ),
        pytest.param(lambda data: data.update(batch_size="1"), r'batch_size: .*integer, got "1"', id="type"),
        pytest.param(
            lambda data: data["precision"].update(executed="f8"),
            r'precision\.executed: .*f32.*, got "f8"',
            id="precision",
        ),
        pytest.param(
            lambda data: data["model"]["preprocess"].update(crop_pct=0),
            r"model\.preprocess\.crop_pct: .*greater than 0, got 0",
            id="nested",
        ),
        pytest.param(
            lambda data: data["files"].update({"../other": "00"}), r"'\.\./other' is not a plain file name", id="escape"
        ),
        pytest.param(
            lambda data: data["files"].update({"/etc/hostname": "00"}), "is not a plain file name", id="absolute"
        ),
        pytest.param(lambda data: data["files"].update({MANIFEST: "00"}), "is not a plain file name", id="itself"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_by_place(directory, edit, change, message):
    edit(change)

    with pytest.raises(FormatError, match=message) as caught:
        OfflineModel.load(directory)
    assert str(caught.value).startswith(str(directory / MANIFEST))


def test_a_newer_format_is_refused_as_newer(directory, edit):
    """The version decides before the keys that only the newer format has."""
    edit(lambda data: data.update(format_version=FORMAT_VERSION + 1, brand_new={"a": 1}))

    with pytest.raises(FormatError, match=r"written by a newer modelport"):
        OfflineModel.load(directory)


def test_save_leaves_nothing_where_writing_fails(tmp_path):
    def write(directory) -> Manifest:
        (directory / "half").write_text("half")
        raise RuntimeError("stopped half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        OfflineModel.save(tmp_path / "model", write)
    assert list(tmp_path.iterdir()) == []


def test_save_refuses_existing_output_before_writing(directory, compiled):
    def write(_) -> Manifest:
        raise AssertionError("must not be called")

    with pytest.raises(OutputError, match="exists already"):
        OfflineModel.save(directory, write)
    assert OfflineModel.load(directory).manifest == compiled("null").manifest
