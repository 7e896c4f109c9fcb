"""Hostile checkpoints: refused in a line, before PyTorch or safetensors has read them."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from modelport import limits
from modelport.errors import CheckpointError
from modelport.exporter.precheck import refuse_hostile

GOOD = {"weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


def safetensors(path: Path, header: object, data: bytes = bytes(16)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def tensor(begin: object, end: object, shape: object = (2, 2), dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_good_file_passes(tmp_path):
    refuse_hostile(safetensors(tmp_path / "a.safetensors", {"__metadata__": {"format": "pt"}, **GOOD}))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param({"w": tensor(0, 17)}, r"tensor 'w' lies at 0 to 17 of 16 bytes; it is damaged or cut off", id="after the end"),
        pytest.param({"w": tensor(-4, 12)}, "tensor 'w' lies at -4 to 12", id="before the beginning"),
        pytest.param({"w": tensor(16, 0)}, "tensor 'w' lies at 16 to 0", id="backwards"),
        pytest.param({"w": tensor(0, 1 << 70)}, "tensor 'w' lies at 0 to 1180591620717411303424", id="absurd"),
        pytest.param({"w": tensor(0, 16, (1 << 40, 1 << 40))}, "which do not fit", id="absurd shape"),
        pytest.param({"w": tensor(0, 16, [1] * 65)}, "it is damaged or cut off", id="dimensions"),
        pytest.param({"a": tensor(0, 12, [3]), "b": tensor(8, 16, [2])}, "the data of 'a' and 'b' overlap", id="overlap"),
        pytest.param({"w": tensor(0.0, 16.5)}, "lies at", id="fractions"),
        pytest.param({"w": 7}, "has no dtype, shape and data_offsets", id="number"),
        pytest.param({"a\x1b[2J": 7}, r"tensor 'a\\\\x1b\[2J' has no dtype", id="control sequence"),
        pytest.param([1], "its header is no mapping", id="list"),
        pytest.param(b"[" * 100_000, "its header is not JSON: maximum recursion depth", id="deep"),
        pytest.param(b"{'a': 1}", "its header is not JSON", id="not JSON"),
        pytest.param(b'{"w": ' + b"9" * 5000 + b"}", "its header is not JSON: Exceeds the limit", id="digits"),
    ],
)  # fmt: skip
def test_a_hostile_safetensors_header_is_refused(tmp_path, header, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        refuse_hostile(safetensors(tmp_path / "a.safetensors", header))
    assert str(caught.value).isprintable()


def test_a_header_beyond_the_limit_is_not_read(tmp_path):
    length = limits.SAFETENSORS_HEADER_BYTES + 1
    with open(tmp_path / "a.safetensors", "wb") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(length + 100)
    with pytest.raises(CheckpointError, match=r"its header has 104,857,601 bytes, more than 104,857,600"):
        refuse_hostile(tmp_path / "a.safetensors")


def test_too_many_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "SAFETENSORS_TENSORS", 3)
    header = {str(number): tensor(0, 0, [0]) for number in range(4)}
    with pytest.raises(CheckpointError, match="lists 4 tensors, more than 3"):
        refuse_hostile(safetensors(tmp_path / "a.safetensors", header))


def zipped(path: Path, members: dict[str, bytes], packed: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_bomb_is_refused(tmp_path):
    path = zipped(tmp_path / "a.pth", {"archive/data/0": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"would unpack to 10,000,000 bytes from 9,\d{3}; .*\(a zip bomb\?\)"):
        refuse_hostile(path)


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """Entries of the directory may all point to one member; the directory is written over to do so."""
    members = {f"archive/data/{number:04}": b"" for number in range(500)} | {"archive/data/huge": bytes(100_000)}
    path = zipped(tmp_path / "a.pth", members)
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\1\2")
    while (place := data.find(b"PK\1\2", place)) >= 0:
        data[place + 20 : place + 28] = struct.pack("<II", 100_000, 100_000)
        place += 46
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="would unpack to 50,100,000 bytes"):
        refuse_hostile(path)


def test_too_many_members_are_refused_before_the_directory_is_read(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.pth", {str(number): b"" for number in range(10)})
    monkeypatch.setattr(limits, "CHECKPOINT_MEMBERS", 3)
    monkeypatch.delattr(zipfile, "ZipFile")
    with pytest.raises(CheckpointError, match=r"its directory has room for \d+ members, more than 3"):
        refuse_hostile(path)


def test_a_pickle_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CHECKPOINT_PICKLE_BYTES", 10)
    path = zipped(tmp_path / "a.pth", {"archive/data.pkl": bytes(11)})
    with pytest.raises(CheckpointError, match="its pickle has 11 bytes; weights lie in other members"):
        refuse_hostile(path)


def test_a_tar_is_never_extracted(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("../../escaped.txt")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(CheckpointError, match="is a tar archive: unpack it"):
        refuse_hostile(tmp_path / "a.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_what_is_neither_kind_is_left_to_its_reader(tmp_path):
    for name, content in (
        ("a.pth", b"text"),
        ("b.safetensors", b"short"),
        ("c.safetensors", b"\xff" * 100),
        ("d.pth", b""),
    ):
        (tmp_path / name).write_bytes(content)
        refuse_hostile(tmp_path / name)
