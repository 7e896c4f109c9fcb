"""Checkpoint files looked through before PyTorch or safetensors reads them: sizes, counts, and offsets that must fit the file."""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from .. import limits
from ..errors import CheckpointError
from ..files import open_regular
from ..printable import printable

_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
_ZIP_END, _ZIP64_PLACE, _ZIP64_END = b"PK\5\6", b"PK\6\7", b"PK\6\6"
_LARGEST_COMMENT = 65_535


def refuse_hostile(path: Path) -> None:
    """Raise CheckpointError where a checkpoint was made, or damaged, so that reading it would take memory without end.

    A file of neither kind is passed over: whoever reads it says what is wrong with it.
    """
    try:
        with open_regular(path) as file:
            if path.suffix == ".safetensors":
                _check_safetensors(path, file)
            elif zipfile.is_zipfile(file):
                _check_zip(path, file)
            elif _is_tar(file):
                raise CheckpointError(f"{path}: is a tar archive: unpack it, and give the .pth or .safetensors inside")
    except zipfile.BadZipFile as error:  # of `is_zipfile`, where an archive claims to go on on another disk
        raise CheckpointError(f"{path}: is no whole checkpoint ({error}); is it damaged?") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_tar(file: BinaryIO) -> bool:
    file.seek(257)
    return file.read(5) == b"ustar"


def _check_safetensors(path: Path, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    if len(start) < 8:
        return
    (length,) = struct.unpack("<Q", start)
    if length > size - 8:
        return  # cut off, or another kind of file; its reader says so
    if length > limits.SAFETENSORS_HEADER_BYTES:
        most = limits.SAFETENSORS_HEADER_BYTES
        raise CheckpointError(f"{path}: its header has {length:,} bytes, more than {most:,}; is it damaged?")
    header = _header(path, file.read(length))
    if len(header) > limits.SAFETENSORS_TENSORS:
        raise CheckpointError(f"{path}: lists {len(header):,} tensors, more than {limits.SAFETENSORS_TENSORS:,}")
    places = sorted(_places(path, header, size - 8 - length))
    for (_, end, first), (start_of_next, _, second) in pairwise(places):
        if start_of_next < end:
            raise CheckpointError(f"{path}: the data of {first!r} and {second!r} overlap; it is damaged")


def _header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not JSON: {printable(str(error))[:160]}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its header is no mapping of names to tensors")
    header.pop("__metadata__", None)
    return header


def _places(path: Path, header: dict[str, Any], room: int) -> Iterator[tuple[int, int, str]]:
    """Where each tensor's data begins and ends, and its name."""
    for name, entry in header.items():
        where = f"{path}: tensor {printable(name)[:80]!r}"
        try:
            (begin, end), shape, bits = entry["data_offsets"], entry["shape"], _BITS.get(entry["dtype"])
            whole = all(type(number) is int and number >= 0 for number in (begin, end, *shape))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{where} has no dtype, shape and data_offsets; it is damaged") from error
        if not whole or not begin <= end <= room or len(shape) > limits.TENSOR_DIMENSIONS:
            place = printable(f"{begin} to {end}")[:80]
            raise CheckpointError(f"{where} lies at {place} of {room:,} bytes; it is damaged or cut off")
        if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
            raise CheckpointError(
                f"{where} has shape {str(shape)[:80]} in {end - begin:,} bytes, which do not fit; it is damaged"
            )
        yield begin, end, name


def _check_zip(path: Path, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size
    count = _members(file, size)
    if count is not None and count > limits.CHECKPOINT_MEMBERS:
        raise CheckpointError(
            f"{path}: its directory has room for {count:,} members, more than {limits.CHECKPOINT_MEMBERS:,}; is it damaged?"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error):
        return  # its reader says so
    unpacked = sum(member.file_size for member in members)
    if unpacked > size * limits.CHECKPOINT_EXPANSION:
        raise CheckpointError(
            f"{path}: would unpack to {unpacked:,} bytes from {size:,}; PyTorch's own files are not packed (a zip bomb?)"
        )
    for member in members:
        if member.filename.endswith(".pkl") and member.file_size > limits.CHECKPOINT_PICKLE_BYTES:
            raise CheckpointError(f"{path}: its pickle has {member.file_size:,} bytes; weights lie in other members")


def _members(file: BinaryIO, size: int) -> int | None:
    """How many entries the directory can hold at most, from its size: before any of it is read."""
    reach = min(size, _LARGEST_COMMENT + 22)
    file.seek(size - reach)
    tail = file.read(reach)
    place = tail.rfind(_ZIP_END)
    if place < 0 or len(tail) - place < 22:
        return None
    directory = struct.unpack_from("<I", tail, place + 12)[0]
    if directory == 0xFFFFFFFF and tail[place - 20 : place - 16] == _ZIP64_PLACE:
        file.seek(min(struct.unpack_from("<Q", tail, place - 12)[0], size))
        end = file.read(56)
        if len(end) < 56 or end[:4] != _ZIP64_END:
            return None
        directory = struct.unpack_from("<Q", end, 40)[0]
    return directory // 46  # the least that an entry takes
