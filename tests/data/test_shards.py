"""Tar and Parquet shards that others wrote, and lists: what is in them, in which order, and what is said of damaged ones."""

from __future__ import annotations

import io
import itertools
import json
import logging
import pickle
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelport.data.source import Source, open_source, stream_source
from modelport.errors import DataError, FormatError


def write_tar(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, group: int = 2, **columns: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def told(source: Source) -> list[tuple[str, int | None, bytes]]:
    return [(sample.key, sample.label, sample.read()) for sample in source]


class TestTar:
    def test_members_of_a_key_may_lie_apart(self, tmp_path):
        path = write_tar(
            tmp_path / "a.tar",
            ("b.jpg", b"image b"), ("a.cls", b"3"), ("b.json", b'{"label": 7, "caption": "x"}'), ("./c/a.png", b"image c"),
            ("a.jpg", b"image a"), ("notes.txt", b"no image"), (".hidden.jpg", b"x"), ("c/a.json", b'{"caption": "x"}'),
        )  # fmt: skip
        assert told(open_source(path)) == [
            ("b.jpg", 7, b"image b"),
            ("c/a.png", None, b"image c"),
            ("a.jpg", 3, b"image a"),
        ]

    def test_names_longer_than_a_header_and_of_other_scripts(self, tmp_path):
        name = f"{'long' * 60}/图.png"
        assert told(open_source(write_tar(tmp_path / "a.tar", (name, b"1")))) == [(name, None, b"1")]

    def test_a_pattern_a_folder_and_braces_are_the_same(self, tmp_path):
        for number in range(3):
            write_tar(tmp_path / "s" / f"{number:03}.tar", (f"{number}.jpg", bytes([number])))
        expected = [(f"{number}.jpg", None, bytes([number])) for number in range(3)]
        for text in ("s/{000..002}.tar", "s/*.tar", "s", "s/00{0,1,2}.tar", "s/00[0-9].tar"):
            assert told(open_source(tmp_path / text)) == expected, text

    def test_what_others_write_with_webdataset(self, tmp_path):
        webdataset = pytest.importorskip("webdataset")
        with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
            for number in range(5):
                writer.write({"__key__": f"n{number}", "jpg": bytes([number]), "cls": number})
        assert told(open_source(tmp_path / "a.tar")) == [(f"n{n}.jpg", n, bytes([n])) for n in range(5)]

    def test_headers_that_are_walked_are_told(self, tmp_path, caplog):
        logging.getLogger("modelport").propagate = True
        with caplog.at_level(logging.INFO):
            open_source(write_tar(tmp_path / "a.tar", ("a.jpg", b"x")))
        assert "no index: the headers of 1 shards are read" in caplog.text

    def test_a_missing_shard_of_a_range(self, tmp_path):
        write_tar(tmp_path / "0.tar", ("a.jpg", b"x"))
        with pytest.raises(DataError, match=r"/1\.tar: this shard is missing; put it back, or leave it out"):
            open_source(tmp_path / "{0..1}.tar")

    def test_cut_off_at_any_byte(self, tmp_path):
        path = write_tar(tmp_path / "a.tar", *((f"{n}.jpg", bytes(700)) for n in range(3)))
        whole = path.read_bytes()
        for size in range(0, 3 * 1536 + 512, 256):
            path.write_bytes(whole[:size])
            with pytest.raises(DataError, match=r"a\.tar: is no whole tar .*cut off or damaged; copy or pack it again"):
                open_source(path)

    def test_a_damaged_header_in_the_middle(self, tmp_path):
        path = write_tar(tmp_path / "a.tar", *((f"{n}.jpg", bytes(700)) for n in range(3)))
        data = bytearray(path.read_bytes())
        data[1536 : 1536 + 512] = b"\x7f" * 512
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"is no whole tar \(no end at byte 1,536\)"):
            open_source(path)

    def test_one_name_in_two_shards_names_both(self, tmp_path):
        write_tar(tmp_path / "0.tar", ("a.jpg", b"x"))
        write_tar(tmp_path / "1.tar", ("b.jpg", b"x"), ("a.jpg", b"y"))
        with pytest.raises(DataError, match=r"/0\.tar: a\.jpg and .*/1\.tar: a\.jpg share the name 'a'"):
            open_source(tmp_path / "*.tar")

    @pytest.mark.parametrize(
        ("name", "data"),
        [("a.cls", b"cat"), ("a.cls", b"-1"), ("a.json", b'{"label": "cat"}'), ("a.json", b'{"cls": true}')],
    )
    def test_a_class_that_is_none(self, tmp_path, name, data):
        path = write_tar(tmp_path / "a.tar", ("a.jpg", b"x"), (name, data))
        with pytest.raises(DataError, match=rf"a\.tar: {name}: expected a class from 0, got b"):
            open_source(path)

    def test_a_link_in_place_of_an_image(self, tmp_path):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            info = tarfile.TarInfo("a.jpg")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
        with pytest.raises(
            DataError, match=r"a\.tar: a\.jpg: is a link, or stored with gaps, and not an image's bytes"
        ):
            open_source(tmp_path / "a.tar")

    def test_compressed_shards_are_refused(self, tmp_path):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
            pass
        with pytest.raises(DataError, match=r"a\.tar\.gz: is compressed.*decompress it to \.tar first"):
            open_source(tmp_path / "a.tar.gz")

    def test_a_shard_that_was_cut_off_since(self, tmp_path):
        path = write_tar(tmp_path / "a.tar", ("a.jpg", bytes(700)))
        (sample,) = open_source(path)
        path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(
            DataError, match=r"cannot be read: .*a\.tar ends at byte 600, .* last is 1,212: it was cut off"
        ):
            sample.read()

    def test_a_stray_tar_does_not_hide_a_folder_of_images(self, make_files):
        assert [s.key for s in open_source(make_files("a.jpg", "b.tar"))] == ["a.jpg"]
        assert [s.key for s in open_source(make_files("c/a.jpg", "b.tar", root="classes"))] == ["c/a.jpg"]


class TestParquet:
    def images(self, count: int) -> list[dict]:
        return [{"bytes": bytes([n]), "path": f"{n}.jpg"} for n in range(count)]

    def test_hugging_faces_layout(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", image=self.images(5), label=[0, 1, 2, None, -1])
        expected = [("0.jpg", 0), ("1.jpg", 1), ("2.jpg", 2), ("3.jpg", None), ("4.jpg", None)]
        assert told(open_source(path)) == [(key, label, bytes([n])) for n, (key, label) in enumerate(expected)]

    def test_rows_in_any_order(self, tmp_path):
        write_parquet(tmp_path / "p" / "0.parquet", image=self.images(5))
        write_parquet(tmp_path / "p" / "1.parquet", image=self.images(5), key=[f"k{n}.jpg" for n in range(5)])
        samples = open_source(tmp_path / "p").samples
        for place in (9, 0, 5, 3, 8, 1):
            assert samples[place].read() == bytes([place % 5])

    def test_bytes_without_a_struct_and_images_without_a_name(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", image=[b"x", b"y", b"z"])
        assert told(open_source(path)) == [
            ("a-0000-000000", None, b"x"), ("a-0000-000001", None, b"y"), ("a-0001-000000", None, b"z"),
        ]  # fmt: skip

    def test_the_images_are_not_read_for_a_plan(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", image=self.images(4))
        with pq.ParquetFile(path) as file:
            column = file.metadata.row_group(1).column(0)
            assert column.path_in_schema == "image.bytes"
            start, size = column.dictionary_page_offset or column.data_page_offset, column.total_compressed_size
        data = bytearray(path.read_bytes())
        data[start : start + size] = b"\xff" * size
        path.write_bytes(data)
        source = open_source(path)
        assert [sample.key for sample in source] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
        with pytest.raises(DataError, match=r"a\.parquet: cannot be read: Couldn't deserialize"):
            source.samples[2].read()

    def test_an_image_that_is_null(self, tmp_path):
        path = write_parquet(
            tmp_path / "a.parquet", image=[{"bytes": None, "path": "a.jpg"}, {"bytes": b"x", "path": "b.jpg"}]
        )
        with pytest.raises(DataError, match=r"cannot be read: this row has no image\.bytes"):
            open_source(path).samples[0].read()

    def test_no_such_column(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", picture=[b"x"], label=[1])
        with pytest.raises(DataError, match=r"a\.parquet: has no column `image` of .*; its columns: picture, label"):
            open_source(path)

    def test_cut_off(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", image=self.images(4))
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(
            DataError, match=r"a\.parquet: is no whole Parquet file .*cut off or damaged; copy it again"
        ):
            open_source(path)

    def test_a_class_that_is_none(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", image=self.images(1), label=["cat"])
        with pytest.raises(DataError, match=r"0\.jpg: expected a class from 0 in column `label`, got 'cat'"):
            open_source(path)


class TestList:
    def test_relative_paths_lie_beside_the_list_and_keep_their_folder(self, make_files, tmp_path):
        folder = make_files("cat/1.png", "dog/1.png")
        (tmp_path / "a.txt").write_text(f"images/cat/1.png\n\n{folder}/dog/1.png\n")
        assert told(open_source(tmp_path / "a.txt")) == [
            ("images/cat/1.png", None, b"cat/1.png"),
            ("1.png", None, b"dog/1.png"),
        ]

    def test_urls(self, make_files, tmp_path):
        folder = make_files("a b.png")
        (tmp_path / "a.txt").write_text(f"file://{folder!s}/a%20b.png\n")
        assert told(open_source(tmp_path / "a.txt")) == [("a b.png", None, b"a b.png")]

    def test_a_line_that_is_no_image(self, tmp_path):
        (tmp_path / "a.txt").write_text("a.png\na.png 3\n")
        with pytest.raises(FormatError, match=r"a\.txt:2: expected the path or URL of an image, got 'a\.png 3'"):
            open_source(tmp_path / "a.txt")


class TestPieces:
    def test_pieces_are_small_can_be_pickled_and_are_all_of_it(self, tmp_path):
        write_tar(tmp_path / "a.tar", *((f"{n:03}.jpg", bytes([n])) for n in range(100)))
        pieces = [pickle.loads(pickle.dumps(piece)) for piece in open_source(tmp_path / "a.tar").shards(30)]
        assert [len(piece) for piece in pieces] == [30, 30, 30, 10]
        assert [bytes([n]) for n in range(100)] == [sample.read() for piece in pieces for sample in piece]

    def test_a_stream_plans_no_more_than_is_asked_for(self, tmp_path):
        for number in range(3):
            write_tar(tmp_path / f"{number}.tar", *((f"{number}-{n}.jpg", b"x") for n in range(4)))
        (tmp_path / "2.tar").write_bytes(b"no tar")
        stream = stream_source(tmp_path / "*.tar", 4)
        assert [len(piece) for piece in itertools.islice(stream, 2)] == [4, 4]
        with pytest.raises(DataError, match=r"2\.tar: is no whole tar"):
            next(stream)

    def test_a_stream_refuses_one_name_in_two_shards(self, tmp_path):
        write_tar(tmp_path / "0.tar", ("a.jpg", b"x"))
        write_tar(tmp_path / "1.tar", ("a.jpg", b"y"))
        with pytest.raises(DataError, match=r"/0\.tar: a\.jpg and .*/1\.tar: a\.jpg share"):
            list(stream_source(tmp_path / "*.tar", 1))


def test_nothing_matches(tmp_path):
    with pytest.raises(DataError, match=r"/\*\.tar: nothing has such a name"):
        open_source(tmp_path / "*.tar")


def test_a_range_that_counts_downwards(tmp_path):
    with pytest.raises(DataError, match=r"\{9\.\.0\}\.tar: stands for nothing; a range counts upwards"):
        open_source(tmp_path / "{9..0}.tar")


def test_a_pattern_of_too_many_names_is_not_written_out(tmp_path):
    with pytest.raises(DataError, match=r"stands for 10,000,000,000 names, more than 100,000; name the folder instead"):
        open_source(tmp_path / "{0..99999}-{0..99999}.tar")


def test_a_foreign_index_is_none(make_files):
    folder = make_files("a.png")
    (folder / "index.json").write_text(json.dumps({"images": 3}))
    assert [sample.key for sample in open_source(folder)] == ["a.png"]
