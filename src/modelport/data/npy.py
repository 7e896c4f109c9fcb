"""NumPy's files as others wrote them. A header that promises more than its file holds allocates nothing."""

from __future__ import annotations

import tokenize
from pathlib import Path

import numpy as np

from ..errors import FormatError

_ARRAY, _ARCHIVE = b"\x93NUMPY", b"PK"
_ERRORS = (ValueError, TypeError, EOFError, SyntaxError, OverflowError, tokenize.TokenError)  # of a damaged header


def read_npy(path: Path, *, mapped: bool = False) -> np.ndarray:
    """The one array of a `.npy` file.

    Args:
        path: the file.
        mapped: do not read its values yet. (A disk that fails while mapped values are looked at ends the process.)

    Raises:
        FormatError: the file cannot be read, or is no array: an archive, cut short, or of Python objects.
    """
    try:
        with open(path, "rb") as file:
            begins = file.read(len(_ARRAY))
        if begins.startswith(_ARCHIVE):
            raise FormatError(f"{path}: is an archive of arrays, expected one array (np.save, not np.savez)")
        if begins != _ARRAY:
            raise FormatError(f"{path}: cannot be read as a NumPy array: it begins with {begins!r}")
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # compares the header with the file's size
        return found if mapped else np.load(path, allow_pickle=False)
    except (OSError, *_ERRORS) as error:
        raise FormatError(f"{path}: cannot be read as a NumPy array: {' '.join(str(error).split())[:160]}") from error
