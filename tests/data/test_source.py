"""Sources: what is found where, in which order, under which name, and when the digest changes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from modelport.data.source import Sample, Source, open_source
from modelport.data.sources.folder import natural_key
from modelport.errors import DataError, FormatError


def keys(source: Source) -> list[str]:
    return [sample.key for sample in source]


class TestFlatFolder:
    def test_images_by_name_without_labels(self, make_files):
        folder = make_files("c.png", "a.jpg", "b.JPEG")
        source = open_source(folder)
        assert list(source) == [Sample(name, folder / name) for name in ("a.jpg", "b.JPEG", "c.png")]
        assert len(source) == 3
        assert source.where == str(folder)

    @pytest.mark.parametrize(
        "suffix", ["jpg", "jpeg", "png", "bmp", "gif", "ppm", "pgm", "tif", "tiff", "webp", "bin", "PNG"]
    )
    def test_accepted_suffixes(self, make_files, suffix):
        assert keys(open_source(make_files(f"one.{suffix}"))) == [f"one.{suffix}"]

    def test_hidden_and_other_files_are_ignored(self, make_files):
        folder = make_files("a.png", ".b.png", "._a.png", "val_label.txt", "notes.md", "Thumbs.db", "png")
        assert keys(open_source(folder)) == ["a.png"]

    def test_a_string_will_do(self, make_files):
        assert keys(open_source(str(make_files("a.png")))) == ["a.png"]

    def test_images_in_the_folder_itself_make_it_flat(self, make_files):
        assert keys(open_source(make_files("a.png", "empty/readme.txt"))) == ["a.png"]

    def test_class_folders_that_a_stray_image_hides_are_warned_of(self, make_files, caplog):
        folder = make_files("stray.jpg", "cats/1.jpg", "empty/readme.txt")
        logging.getLogger("modelport").propagate = True
        assert keys(open_source(folder)) == ["stray.jpg"]
        assert "flat folder of 1 images; those in cats/ are not read" in caplog.text


class TestClassFolders:
    def test_classes_are_numbered_in_natural_order(self, make_files):
        source = open_source(make_files("10/a.png", "2/c.png", "2/b.png", "1/d.png"))
        assert [(sample.key, sample.label) for sample in source] == [
            ("1/d.png", 0),
            ("2/b.png", 1),
            ("2/c.png", 1),
            ("10/a.png", 2),
        ]

    def test_same_file_name_in_two_classes_is_fine(self, make_files):
        assert keys(open_source(make_files("cat/1.png", "dog/1.png"))) == ["cat/1.png", "dog/1.png"]

    def test_hidden_folders_and_files_are_ignored_and_not_numbered(self, make_files):
        source = open_source(make_files(".cache/a.png", "cat/.b.png", "cat/c.png", "dog/d.png"))
        assert [(sample.key, sample.label) for sample in source] == [("cat/c.png", 0), ("dog/d.png", 1)]

    def test_order_equals_timm(self, make_files):
        timm_data = pytest.importorskip("timm.data")
        folder = make_files(
            *(f"{name}/x.png" for name in ("n10", "n9", "Zebra", "apple", "b2", "B10", "a1b2", "a1b10"))
        )
        ours = {sample.origin.parent.name: sample.label for sample in open_source(folder)}
        assert ours == timm_data.create_dataset("", str(folder)).reader.class_to_idx


@pytest.mark.parametrize(
    "names",
    [
        ["2", "10"],
        ["a2b", "a10b"],
        ["apple", "Banana"],
        ["9", "a"],
        ["a", "a1"],
        ["a", "²"],
    ],
)
def test_natural_key(names):
    backwards = names[::-1]
    assert sorted(backwards, key=natural_key) == names


class TestInfo:
    """The guide's `.info` list."""

    def test_paths_relative_to_the_list(self, make_files, tmp_path):
        folder = make_files("b.bin", "a.bin")
        (tmp_path / "prep.info").write_text("0 images/b.bin 224 224\n1 images/a.bin 224 224\n")
        assert list(open_source(tmp_path / "prep.info")) == [
            Sample("b.bin", folder / "b.bin"),
            Sample("a.bin", folder / "a.bin"),
        ]

    def test_paths_relative_to_here_come_first(self, make_files, tmp_path, monkeypatch):
        make_files("a.bin")
        (tmp_path / "lists").mkdir()
        (tmp_path / "lists" / "prep.info").write_text("0 ./images/a.bin 224 224\n")
        monkeypatch.chdir(tmp_path)
        (sample,) = open_source(tmp_path / "lists" / "prep.info")
        assert sample.origin.read_text() == "a.bin"

    def test_absolute_paths_and_paths_with_spaces(self, make_files, tmp_path):
        folder = make_files("my cat.jpg")
        (tmp_path / "a.info").write_text(f"0 {folder}/my cat.jpg 640 427\n")
        assert list(open_source(tmp_path / "a.info")) == [Sample("my cat.jpg", folder / "my cat.jpg")]

    def test_blank_lines_and_windows_line_ends(self, make_files, tmp_path):
        make_files("a.bin", "b.bin")
        (tmp_path / "a.info").write_bytes(b"0 images/a.bin 224 224\r\n\r\n1 images/b.bin 224 224\r\n")
        source = open_source(tmp_path / "a.info")
        assert keys(source) == ["a.bin", "b.bin"]
        assert all(sample.origin.exists() for sample in source)

    def test_a_listed_file_that_is_missing_stays_in_the_plan(self, tmp_path):
        """It is counted as a bad image when it is read; it is not dropped."""
        (tmp_path / "a.info").write_text("0 gone.jpg 1 1\n")
        assert keys(open_source(tmp_path / "a.info")) == ["gone.jpg"]

    @pytest.mark.parametrize("line", ["1 b.bin 224", "b.bin 224 224", "x b.bin 224 224", "1 b.bin 224 -1", "hello"])
    def test_malformed_line_is_named(self, tmp_path, line):
        (tmp_path / "a.info").write_text(f"0 a.bin 224 224\n\n{line}\n")
        expected = rf"a\.info:3: expected `index path width height`, got '{line}'"
        with pytest.raises(FormatError, match=expected):
            open_source(tmp_path / "a.info")

    def test_empty_list(self, tmp_path):
        (tmp_path / "a.info").write_text("\n")
        with pytest.raises(DataError, match=r"a\.info: holds no images"):
            open_source(tmp_path / "a.info")

    def test_missing_list(self, tmp_path):
        with pytest.raises(FormatError, match=r"a\.info: cannot be read: No such file"):
            open_source(tmp_path / "a.info")

    def test_list_that_is_not_text(self, tmp_path):
        (tmp_path / "a.info").write_bytes(b"0 \xff.bin 1 1\n")
        with pytest.raises(FormatError, match=r"a\.info: is not UTF-8 text \(byte 2\)"):
            open_source(tmp_path / "a.info")


class TestOtherPlaces:
    def test_single_file(self, make_files):
        path = make_files("a.png") / "a.png"
        assert list(open_source(path)) == [Sample("a.png", path)]

    def test_missing_path(self, tmp_path):
        with pytest.raises(DataError, match=r"nowhere: no such file or folder; images come from a folder, class sub"):
            open_source(tmp_path / "nowhere")

    @pytest.mark.parametrize(
        "names", [[], ["readme.txt"], ["cat/readme.txt", "dog/notes"], [".hidden.png"], ["a/b/c.png"]]
    )
    def test_folder_without_images(self, make_files, names):
        with pytest.raises(DataError, match=r"images: holds no images \(looked for jpg, jpeg, png, .*one folder down"):
            open_source(make_files(*names))

    @pytest.mark.parametrize(
        ("names", "first", "second", "key"),
        [
            (["a.jpg", "a.png"], "a.jpg", "a.png", "a"),
            (["a.1.jpg", "a.2.jpg"], "a.1.jpg", "a.2.jpg", "a"),
            (["cat/x.jpg", "cat/x.jpeg"], "cat/x.jpeg", "cat/x.jpg", "cat/x"),
        ],
    )
    def test_two_images_of_one_name_are_refused(self, make_files, names, first, second, key):
        with pytest.raises(DataError, match=f"'{first}' and '{second}' share the name '{key}', so labels cannot"):
            open_source(make_files(*names))


class TestLimitAndLabels:
    def test_limited_takes_the_first(self, make_files):
        source = open_source(make_files("a.png", "b.png", "c.png"))
        assert keys(source.limited(2)) == ["a.png", "b.png"]
        assert keys(source.limited(9)) == ["a.png", "b.png", "c.png"]
        assert source.limited(None) is source
        assert source.limited(2).where == source.where

    def test_labels_are_looked_up_by_name_up_to_the_first_dot(self, make_files):
        source = open_source(make_files("a.x.png", "b.png")).labelled({"a": 7})
        assert [sample.label for sample in source] == [7, None]

    def test_class_folders_keep_their_own_label_where_none_is_given(self, make_files):
        source = open_source(make_files("cat/a.png", "dog/b.png")).labelled({"cat/a": 5})
        assert [sample.label for sample in source] == [5, 1]


class TestDigest:
    @pytest.fixture
    def folder(self, make_files) -> Path:
        return make_files("a.png", "b.png")

    def test_same_content_same_digest(self, folder):
        assert open_source(folder).digest() == open_source(folder).digest()

    def test_changes_with_a_files_size(self, folder):
        before, state = open_source(folder).digest(), os.stat(folder / "a.png")
        (folder / "a.png").write_text("longer than before")
        os.utime(folder / "a.png", ns=(state.st_atime_ns, state.st_mtime_ns))
        assert open_source(folder).digest() != before

    def test_changes_with_a_files_time(self, folder):
        before = open_source(folder).digest()
        os.utime(folder / "a.png", ns=(1, 1))
        assert open_source(folder).digest() != before

    def test_changes_when_an_image_is_added_removed_or_renamed(self, folder, make_files):
        seen = [open_source(folder).digest()]
        make_files("c.png")
        seen.append(open_source(folder).digest())
        (folder / "c.png").rename(folder / "d.png")
        seen.append(open_source(folder).digest())
        (folder / "a.png").unlink()
        seen.append(open_source(folder).digest())
        assert len(set(seen)) == 4

    def test_changes_with_the_labels_and_the_limit(self, folder):
        source = open_source(folder)
        others = [source, source.labelled({"a": 1}), source.labelled({"a": 2}), source.limited(1)]
        assert len({other.digest() for other in others}) == 4

    def test_does_not_change_with_a_file_that_is_no_image(self, folder, make_files):
        before = open_source(folder).digest()
        make_files("notes.txt")
        assert open_source(folder).digest() == before

    def test_changes_when_a_listed_file_that_was_missing_appears(self, tmp_path):
        """A missing file is counted as a bad image when it is read, so planning must survive it too."""
        (tmp_path / "a.info").write_text("0 gone.jpg 1 1\n")
        before = open_source(tmp_path / "a.info").digest()
        (tmp_path / "gone.jpg").write_text("here")
        assert open_source(tmp_path / "a.info").digest() != before
