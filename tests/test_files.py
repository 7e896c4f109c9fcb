"""Files that are whole or absent, and output that is never overwritten by accident."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from modelport import files
from modelport.errors import OutputError

MARK = "mark.json"


def content(folder: Path) -> list[str]:
    """Names in a folder, hidden ones included: a leftover temporary file would show."""
    return sorted(entry.name for entry in folder.iterdir())


def mask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(OSError, match="is a pipe, a socket or a device, not a file"):
            files.digest(path)
    with pytest.raises(IsADirectoryError):
        files.digest(tmp_path)


def test_digest_is_the_files_sha256(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)
    assert files.digest(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    assert files.digest(tmp_path / "x", "md5") == hashlib.md5(data).hexdigest()


class TestRefuseExisting:
    @pytest.mark.parametrize("kind", ["file", "full directory", "dangling link"])
    def test_existing_output_is_refused_unless_forced(self, tmp_path, kind):
        path = tmp_path / "out"
        if kind == "file":
            path.touch()
        elif kind == "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        else:
            path.mkdir()
            (path / "x").touch()
        with pytest.raises(OutputError, match=r"out exists already: choose another output, or pass --force to replace"):
            files.refuse_existing(path, force=False)
        files.refuse_existing(path, force=True)

    def test_absent_output_is_fine(self, tmp_path):
        files.refuse_existing(tmp_path / "out", force=False)

    def test_empty_directory_is_fine_only_where_a_directory_is_wanted(self, tmp_path):
        files.refuse_existing(tmp_path, force=False)
        with pytest.raises(OutputError, match="exists already"):
            files.refuse_existing(tmp_path, force=False, reuse_empty=False)


def write_half(path: Path) -> None:
    with files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("broke")


class TestAtomicPath:
    def test_appears_whole_at_the_end(self, tmp_path):
        with files.atomic_path(tmp_path / "out.txt") as temporary:
            temporary.write_text("whole")
            assert not (tmp_path / "out.txt").exists()
            assert temporary.parent == tmp_path
        assert content(tmp_path) == ["out.txt"]
        assert (tmp_path / "out.txt").read_text() == "whole"

    def test_nothing_is_left_on_failure(self, tmp_path):
        with pytest.raises(RuntimeError, match="broke"):
            write_half(tmp_path / "out.txt")
        assert content(tmp_path) == []

    def test_an_earlier_file_survives_failure(self, tmp_path):
        (tmp_path / "out.txt").write_text("before")
        with pytest.raises(RuntimeError, match="broke"):
            write_half(tmp_path / "out.txt")
        assert content(tmp_path) == ["out.txt"]
        assert (tmp_path / "out.txt").read_text() == "before"

    def test_folders_on_the_way_are_made(self, tmp_path):
        files.write_text(tmp_path / "a" / "b" / "out.txt", "x")
        assert (tmp_path / "a" / "b" / "out.txt").read_text() == "x"

    def test_permissions_are_those_of_an_ordinary_file(self, tmp_path):
        files.write_text(tmp_path / "out.txt", "x")
        assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o666 & ~mask()

    def test_longest_possible_name(self, tmp_path):
        name = "n" * 255
        files.write_text(tmp_path / name, "x")
        assert content(tmp_path) == [name]


class TestUnwritable:
    @pytest.fixture(params=["below a file", "a directory", "name too long"])
    def target(self, request, tmp_path) -> Path:
        if request.param == "below a file":
            (tmp_path / "out.txt").write_text("in the way")
            return tmp_path / "out.txt" / "out.txt"
        if request.param == "a directory":
            (tmp_path / "out.txt").mkdir()
            return tmp_path / "out.txt"
        return tmp_path / ("x" * 300 + "out.txt")

    def test_is_an_output_error_that_names_the_target(self, target, tmp_path):
        before = content(tmp_path)
        with pytest.raises(OutputError, match=r"^cannot write .*out\.txt: [A-Z][a-z ]+$"):
            files.write_text(target, "x")
        assert content(tmp_path) == before

    def test_directory_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with (
            pytest.raises(OutputError, match=r"^cannot write .*out: "),
            files.new_directory(tmp_path / "file" / "out", marker=MARK),
        ):
            pass


def test_write_text_is_utf8_with_the_line_ends_given(tmp_path):
    files.write_text(tmp_path / "x", "ü\n\r\n")
    assert (tmp_path / "x").read_bytes() == b"\xc3\xbc\n\r\n"


def test_write_bytes_replaces(tmp_path):
    files.write_bytes(tmp_path / "x", b"a long first version")
    files.write_bytes(tmp_path / "x", b"short")
    assert (tmp_path / "x").read_bytes() == b"short"


def fill(path: Path, name: str = "new.txt", *, force: bool = False, fail: bool = False) -> None:
    with files.new_directory(path, marker=MARK, force=force) as directory:
        (directory / MARK).touch()
        (directory / "sub").mkdir()
        (directory / "sub" / name).write_text(name)
        if fail:
            raise RuntimeError("broke")


def fill_while_another_run_does(path: Path) -> None:
    with files.new_directory(path, marker=MARK) as directory:
        (directory / MARK).touch()
        fill(path, "theirs.txt")


class TestNewDirectory:
    def test_appears_whole_at_the_end(self, tmp_path):
        out = tmp_path / "deep" / "out"
        with files.new_directory(out, marker=MARK) as directory:
            (directory / MARK).touch()
            assert not out.exists()
        assert content(out) == [MARK]
        assert content(out.parent) == ["out"]
        assert out.stat().st_mode & 0o777 == 0o777 & ~mask()

    def test_nothing_is_left_on_failure(self, tmp_path):
        with pytest.raises(RuntimeError, match="broke"):
            fill(tmp_path / "out", fail=True)
        assert content(tmp_path) == []

    def test_an_empty_directory_is_taken(self, tmp_path):
        (tmp_path / "out").mkdir()
        fill(tmp_path / "out")
        assert content(tmp_path / "out" / "sub") == ["new.txt"]

    def test_existing_one_is_refused_before_any_work(self, tmp_path):
        fill(tmp_path / "out", "old.txt")
        with pytest.raises(OutputError, match=r"out exists already: .*--force"):
            fill(tmp_path / "out", fail=True)
        assert content(tmp_path / "out" / "sub") == ["old.txt"]

    def test_force_replaces_it_whole(self, tmp_path):
        fill(tmp_path / "out", "old.txt")
        fill(tmp_path / "out", force=True)
        assert content(tmp_path / "out" / "sub") == ["new.txt"]
        assert content(tmp_path) == ["out"]

    def test_force_keeps_the_old_one_on_failure(self, tmp_path):
        fill(tmp_path / "out", "old.txt")
        with pytest.raises(RuntimeError, match="broke"):
            fill(tmp_path / "out", force=True, fail=True)
        assert content(tmp_path / "out" / "sub") == ["old.txt"]
        assert content(tmp_path) == ["out"]

    def test_force_never_removes_a_directory_of_another_kind(self, tmp_path):
        """`--output ~/photos --force` must not cost anyone their photos."""
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").touch()
        with pytest.raises(
            OutputError, match=r"photos: holds other files \(mark\.json is not among them\): not removed"
        ):
            fill(tmp_path / "photos", force=True)
        assert content(tmp_path / "photos") == ["cat.jpg"]

    def test_force_never_removes_a_file(self, tmp_path):
        (tmp_path / "out").write_text("a file")
        with pytest.raises(OutputError, match="out: is a file or link where a directory is to be made"):
            fill(tmp_path / "out", force=True)
        assert (tmp_path / "out").read_text() == "a file"

    def test_force_never_follows_a_link(self, tmp_path):
        fill(tmp_path / "real", "old.txt")
        (tmp_path / "out").symlink_to(tmp_path / "real")
        with pytest.raises(OutputError, match="out: is a file or link where a directory is to be made"):
            fill(tmp_path / "out", force=True)
        assert content(tmp_path / "real" / "sub") == ["old.txt"]

    def test_a_result_that_another_run_made_meanwhile_is_not_destroyed(self, tmp_path):
        """Two runs into one output without --force: the second to finish must not delete the first one's result."""
        with pytest.raises(OutputError, match="exists already"):
            fill_while_another_run_does(tmp_path / "out")
        assert content(tmp_path / "out" / "sub") == ["theirs.txt"]
        assert content(tmp_path) == ["out"]


class TestRemoveDirectory:
    def test_one_of_its_kind_an_empty_one_and_none(self, tmp_path):
        fill(tmp_path / "ours")
        (tmp_path / "empty").mkdir()
        for name in ("ours", "empty", "absent"):
            files.remove_directory(tmp_path / name, marker=MARK)
        assert content(tmp_path) == []

    def test_others_are_left(self, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "x").touch()
        with pytest.raises(OutputError, match="holds other files"):
            files.remove_directory(tmp_path / "other", marker=MARK)
        assert content(tmp_path / "other") == ["x"]
