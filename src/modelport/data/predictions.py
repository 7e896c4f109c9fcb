"""Predictions as Parquet: one row per image, in input order, failed images included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .. import files
from ..errors import FormatError
from .source import Sample

TOP = 5
_ROWS_PER_GROUP = 4096


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model said of one image.

    Attributes:
        sample: the image.
        top: class indices of the highest scores, highest first; ties go to the lower index. Empty where it failed.
        top_scores: their scores as the model gave them.
        scores: all scores.
        error: why there is none, or None.
        content: sha256 of its file's bytes, where the run asked for it and the file could be read.
    """

    sample: Sample
    top: np.ndarray
    top_scores: np.ndarray
    scores: np.ndarray | None
    error: str | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Predictions:
    """A predictions file, read back.

    Attributes:
        keys: image names, in input order.
        labels: their classes where known.
        top: class indices, N x 5, highest score first; -1 in rows with an error and beyond the model's classes.
        errors: why an image could not be classified, or None.
        scores: N x classes, NaN in rows with an error; None where they were not kept.
    """

    keys: list[str]
    labels: list[int | None]
    top: np.ndarray
    errors: list[str | None]
    scores: np.ndarray | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a predictions file.

        Raises:
            FormatError: it is missing or no predictions file.
        """
        with _reading(path):
            table = pq.read_table(path)
            classes = _checked(table.schema)
            _refuse_nameless(table["key"])
            errors = table["error"].to_pylist()
            good = np.array([error is None for error in errors], dtype=bool)
            top = _top(table["top"].combine_chunks(), good)
            scores = None
            if "scores" in table.column_names:
                # Takes no memory, whatever number of classes the file promises.
                scores = np.broadcast_to(np.float32(np.nan), (len(good), classes))
                if good.any():
                    rows = _rows(table["scores"].combine_chunks(), int(good.sum())).reshape(-1, classes)
                    scores = np.full((len(good), classes), np.nan, dtype=np.float32)
                    scores[good] = rows
            return cls(table["key"].to_pylist(), table["label"].to_pylist(), top, errors, scores)

    @property
    def decisions(self) -> Decisions:
        """What counting needs of them."""
        labels = np.array([-1 if label is None else label for label in self.labels], dtype=np.int64)
        failed = np.array([error is not None for error in self.errors], dtype=bool)
        return Decisions(self.keys, labels, self.top, failed)


def _checked(found: pa.Schema) -> int:
    """Width of the model's output that a file's metadata tells, after comparing its columns with ours."""
    classes = int((found.metadata or {})[b"classes"])
    wanted = schema(classes, all_scores="scores" in found.names)
    for name in set(wanted.names) - {"sha256"}:  # earlier files lack it
        if found.field(name).type != wanted.field(name).type:
            raise ValueError(f"column {name} is {found.field(name).type}, expected {wanted.field(name).type}")
    return classes


def _refuse_nameless(keys: pa.ChunkedArray | pa.Array) -> None:
    if keys.null_count:
        raise ValueError("an image has no name")


@dataclass(frozen=True, slots=True)
class Decisions:
    """Some predictions' first classes, for counting.

    Attributes:
        keys: image names.
        labels: their classes, -1 where unknown.
        top: class indices, N x 5, highest score first, -1 where there is none.
        failed: which images could not be classified.
    """

    keys: list[str]
    labels: np.ndarray
    top: np.ndarray
    failed: np.ndarray


def read_decisions(path: Path, rows: int = 1 << 16) -> Iterator[Decisions]:
    """Read a predictions file, some thousand decisions at a time.

    Raises:
        FormatError: it is missing or no predictions file.
    """
    with _reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, columns=["key", "label", "top", "error"]):
            _refuse_nameless(batch["key"])
            good = batch["error"].is_null().to_numpy(zero_copy_only=False)
            labels = batch["label"].fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            yield Decisions(batch["key"].to_pylist(), labels, _top(batch["top"], good), ~good)


def classes_of(path: Path) -> int:
    """How many classes the model of a predictions file has.

    Raises:
        FormatError: it is missing or no predictions file.
    """
    with _reading(path):
        return _checked(pq.read_schema(path))


def rows_of(path: Path) -> int:
    """How many images a predictions file has, without reading them.

    Raises:
        FormatError: it is missing or no predictions file.
    """
    with _reading(path):
        return pq.read_metadata(path).num_rows


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FormatError(f"{path}: no such file; `modelport infer` writes it") from error
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FormatError(f"{path}: is not a predictions file: {reason}") from error


def _top(column: pa.Array, good: np.ndarray) -> np.ndarray:
    """First classes, N x 5; -1 in rows that are not good and beyond the model's classes."""
    top = np.full((len(good), TOP), -1, dtype=np.int32)
    found = _rows(column, int(good.sum()))
    top[good, : found.shape[1]] = found
    return top


def _rows(column: pa.Array, count: int) -> np.ndarray:
    """The non-empty lists of a column as a 2-D array; they are all of one length."""
    return column.flatten().to_numpy(zero_copy_only=False).reshape(count, -1 if count else 0)


def schema(classes: int, *, all_scores: bool) -> pa.Schema:
    """Columns of a predictions file."""
    fields = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("top", pa.list_(pa.int32()), nullable=False),
        pa.field("top_scores", pa.list_(pa.float32()), nullable=False),
        pa.field("error", pa.string()),
        pa.field("sha256", pa.binary(32)),
    ]
    if all_scores:
        fields.append(pa.field("scores", pa.list_(pa.float32())))
    return pa.schema(fields, metadata={"modelport": "predictions 1", "classes": str(classes)})


def as_table(rows: list[Prediction], columns: pa.Schema) -> pa.Table:
    """Predictions as a table of these columns."""
    data = {
        "key": [row.sample.key for row in rows],
        "label": [row.sample.label for row in rows],
        "top": [row.top for row in rows],
        "top_scores": [row.top_scores for row in rows],
        "error": [row.error for row in rows],
        "sha256": [row.content for row in rows],
        "scores": [row.scores for row in rows],
    }
    return pa.table({name: data[name] for name in columns.names}, schema=columns)


class PredictionWriter:
    """Writes tables of predictions in row groups of a few thousand, however they come: memory stays flat, and the same rows
    make the same bytes."""

    def __init__(self, path: Path, columns: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, columns, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._waiting.append(table)
        self._rows += len(table)
        if self._rows >= _ROWS_PER_GROUP:
            whole = pa.concat_tables(self._waiting)
            full = self._rows - self._rows % _ROWS_PER_GROUP
            for start in range(0, full, _ROWS_PER_GROUP):
                self._group(whole.slice(start, _ROWS_PER_GROUP))
            self._waiting, self._rows = [whole.slice(full)], self._rows - full

    def _group(self, table: pa.Table) -> None:
        self._writer.write_table(table.combine_chunks(), row_group_size=_ROWS_PER_GROUP)

    def close(self) -> None:
        """Write what is left, and the file's footer."""
        if self._rows:
            self._group(pa.concat_tables(self._waiting))
        self._writer.close()


@contextmanager
def writing(path: Path, columns: pa.Schema) -> Iterator[PredictionWriter]:
    """A writer whose file appears at `path` whole, or not at all."""
    with files.atomic_path(path) as temporary:
        writer = PredictionWriter(temporary, columns)
        try:
            yield writer
        finally:
            writer.close()


def top_classes(scores: np.ndarray, count: int = TOP) -> np.ndarray:
    """Indices of the highest scores in each row, highest first, ties to the lower index. Shape N x min(count, classes)."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count].astype(np.int32)
