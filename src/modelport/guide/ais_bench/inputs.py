"""Input files of an ais_bench run: `.npy` and `.bin`, each one image or one whole batch, grouped into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...data.npy import read_npy
from ...errors import DataError, FormatError
from ...offline import TensorSpec
from .tensor import fit, nbytes, show

SUFFIXES = (".npy", ".bin")
PURE_STEM = "pure_infer_data"


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch to run.

    Attributes:
        number: from 0.
        files: in batch order; without any, it is made up.
        whole: each file, or what was made up, is a whole batch; else each is one image.
        images: in it, padding not counted.
    """

    number: int
    files: tuple[Path, ...]
    whole: bool
    images: int

    def split(self, scores: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Stem and scores, images x classes, of each file; padding has none."""
        if not self.files:
            yield PURE_STEM, scores
        for row, file in enumerate(self.files):
            yield file.stem, scores if self.whole else scores[row : row + 1]


class FileInput:
    """Files, checked and grouped into batches."""

    def __init__(self, text: str, tensor: TensorSpec) -> None:
        """Plan the run.

        Args:
            text: a directory, or files with commas between.
            tensor: the model's input.

        Raises:
            DataError: there are no files, two have one stem, or images and whole batches are mixed.
            FormatError: a file cannot be read or does not fit the input.
        """
        self._tensor, self._dtype = tensor, np.dtype(tensor.dtype)
        self._shapes = {(1, *tensor.shape[1:]): False, tuple(tensor.shape): tensor.shape[0] > 1}
        files = list_files(text)
        _refuse_same_stem(files)
        whole = [self._check(file) for file in files]
        for (first, one), (second, other) in pairwise(zip(files, whole, strict=True)):
            if one != other:
                single, batch = (second, first) if one else (first, second)
                raise DataError(
                    f"{single}: holds one image, but {batch.name} a batch of {tensor.shape[0]}; run them separately"
                )
        per_batch = 1 if whole[0] else tensor.shape[0]
        self.batches = [
            Batch(number, group, whole[0], tensor.shape[0] if whole[0] else len(group))
            for number, group in enumerate(_grouped(files, per_batch))
        ]

    def load(self, batch: Batch) -> list[np.ndarray]:
        """Read a batch's files: each images x channels x height x width."""
        return [self._fitted(file, _read(file, self._dtype)) for file in batch.files]

    def assemble(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Copy what `load` read into one batch, filled up with zeros."""
        data = np.zeros(self._tensor.shape, self._dtype)
        np.concatenate(arrays, out=data[: sum(map(len, arrays))])
        return data

    def _check(self, file: Path) -> bool:
        """Whether a file is a whole batch, without reading its data."""
        if file.suffix.lower() == ".npy":
            return len(self._fitted(file, read_npy(file, mapped=True))) > 1
        size = _size(file)
        for shape, whole in self._shapes.items():
            if size == nbytes(self._dtype, shape):
                return whole
        raise FormatError(f"{file}: got {size} bytes, expected {self._expected()}")

    def _fitted(self, file: Path, array: np.ndarray) -> np.ndarray:
        for shape in self._shapes:
            fitted = fit(array, self._dtype, shape)
            if fitted is not None:
                return fitted
        got = f"{show(array.dtype, array.shape)}, {array.nbytes} bytes"
        raise FormatError(f"{file}: got {got}, expected {self._expected()}")

    def _expected(self) -> str:
        return " or ".join(
            f"{nbytes(self._dtype, shape)} bytes ({show(self._tensor.dtype, shape)})" for shape in self._shapes
        )


class MadeUpInput:
    """One batch of zeros or random values, for pure inference."""

    def __init__(self, kind: str, tensor: TensorSpec) -> None:
        """`kind` is `zero` or `random`: uniform on 0…1, or on 0…255 where the input is of integers; seeded."""
        dtype, rng = np.dtype(tensor.dtype), np.random.default_rng(0)
        if kind == "zero":
            self._data = np.zeros(tensor.shape, dtype)
        elif dtype.kind == "f":
            self._data = rng.random(tensor.shape).astype(dtype)
        else:
            self._data = rng.integers(0, 256, tensor.shape).astype(dtype)
        self.batches = [Batch(0, (), True, tensor.shape[0])]

    def load(self, batch: Batch) -> list[np.ndarray]:
        """The data."""
        return [self._data]

    def assemble(self, arrays: list[np.ndarray]) -> np.ndarray:
        """A copy of it."""
        return arrays[0].copy()


def list_files(text: str) -> list[Path]:
    """Files of a directory in order of their names, or of a list with commas between in its own.

    Raises:
        DataError: one is missing or of another kind, there are none, or there are two directories.
    """
    paths = [Path(text)] if Path(text).exists() else [Path(word) for word in text.split(",") if word]
    directories = [path for path in paths if path.is_dir()]
    if len(directories) > 1:
        raise DataError(f"--input {text}: the model has one input, so give one directory, got {len(directories)}")
    files = []
    for path in paths:
        files += sorted(_visible(path)) if path.is_dir() else [path]
    if not files:
        raise DataError(f"--input {text}: holds no input files ({', '.join(SUFFIXES)})")
    for file in files:
        if not file.is_file():
            raise DataError(
                f"{file}: {'is no file' if file.exists() else 'does not exist'}; inputs are .npy or .bin files"
            )
        if file.suffix.lower() not in SUFFIXES:
            raise DataError(f"{file}: unknown kind of input {file.suffix!r}, expected {' or '.join(SUFFIXES)}")
    return files


def _visible(directory: Path) -> Iterator[Path]:
    return (path for path in directory.iterdir() if not path.name.startswith("."))


def _refuse_same_stem(files: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(file.stem, file)
        if other is not file:
            raise DataError(f"{other} and {file}: outputs are named by the stem, which both have; rename one")


def _grouped(files: list[Path], count: int) -> Iterator[tuple[Path, ...]]:
    return (tuple(files[start : start + count]) for start in range(0, len(files), count))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise FormatError(f"{file}: cannot be read: {error.strerror or error}") from error


def _read(file: Path, dtype: np.dtype) -> np.ndarray:
    if file.suffix.lower() == ".npy":
        return read_npy(file)
    try:
        return np.frombuffer(file.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise FormatError(f"{file}: cannot be read: {error.strerror or error}") from error
