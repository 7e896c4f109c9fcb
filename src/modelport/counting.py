"""Decisions counted a few thousand at a time: TopN, accuracy by class, and what is taken for what. Knows no engine.

Memory does not grow with the images, but for eight bytes each that tell one name from another.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from .data.labels import label_key
from .data.predictions import TOP, Decisions, classes_of, read_decisions
from .errors import DataError, FormatError
from .results import Accuracy, ClassAccuracy, Confusion

_SHOWN = 20  # worst classes and most confused pairs that are told
_FIRST = 5  # names that are told as examples
_MATRIX = 100  # classes up to which the whole matrix of confusion is told


class Count:
    """A running count against labels by name, or where `labels` is None against those that the predictions hold."""

    def __init__(self, classes: int, labels: dict[str, int] | None) -> None:
        self._classes, self._labels = classes, labels
        self._hits = np.zeros(TOP, np.int64)
        self._of_class = np.zeros((3, classes), np.int64)  # images, right first, right in the first five
        self._pairs = np.empty(0, np.int64)  # truth x classes + prediction, where that is wrong
        self._pair_counts = np.empty(0, np.int64)
        self._seen = set[str]()  # of `labels`
        self._images = self._extra = self._failed = self._rows = 0
        self._first_extra: list[str] = []
        self._first = "none"
        self._marks: list[np.ndarray] = []

    def add(self, part: Decisions) -> None:
        """Count more of them."""
        keys = [label_key(key) for key in part.keys]
        if keys and not self._rows:
            self._first = keys[0]
        self._rows += len(keys)
        self._marks.append(np.fromiter(map(hash, keys), np.int64, len(keys)))
        truth = part.labels
        if self._labels is not None:
            truth = np.array([self._labels.get(key, -1) for key in keys], dtype=np.int64)
            self._seen.update(key for key in keys if key in self._labels)
        known = truth >= 0
        if (wrong := np.flatnonzero(truth >= self._classes)).size:
            raise DataError(
                f"{part.keys[wrong[0]]!r} has label {truth[wrong[0]]}, the model has classes 0 to {self._classes - 1}; "
                "are these the labels of this model, counted from 0?"
            )
        self._images += int(known.sum())
        self._extra += int((~known).sum())
        self._first_extra += [part.keys[row] for row in np.flatnonzero(~known)[: _FIRST - len(self._first_extra)]]
        self._failed += int((part.failed & known).sum())
        right = (part.top == truth[:, None]) & (known & ~part.failed)[:, None]
        self._hits += right.sum(axis=0)
        for row, which in enumerate((known, right[:, 0], right.any(axis=1))):
            self._of_class[row] += np.bincount(truth[which], minlength=self._classes)
        confused = known & ~part.failed & ~right[:, 0] & (part.top[:, 0] >= 0)
        self._add_pairs(truth[confused] * self._classes + part.top[confused, 0])

    def _add_pairs(self, codes: np.ndarray) -> None:
        self._pairs, where = np.unique(np.concatenate([self._pairs, codes]), return_inverse=True)
        counts = np.concatenate([self._pair_counts, np.ones(len(codes), np.int64)])
        self._pair_counts = np.bincount(where, counts, minlength=len(self._pairs)).astype(np.int64)

    def twice(self) -> set[int]:
        """Hashes of names that came more than once."""
        marks = np.sort(np.concatenate(self._marks)) if self._marks else np.empty(0, np.int64)
        return set(marks[1:][marks[1:] == marks[:-1]].tolist())

    def result(self, *, limited: bool = False) -> Accuracy:
        """The figures. Labelled images that were not predicted are in the denominator unless a `--limit` left them out on purpose.

        Raises:
            DataError: nothing is left to divide by.
        """
        if not self._images:
            raise DataError(f"none of the {self._rows} predicted images has a label (first image: {self._first})")
        missing = [key for key in self._labels or () if key not in self._seen]
        absent = 0 if limited else len(missing)
        return Accuracy(
            images=self._images + absent,
            classes=self._classes,
            hits=tuple(int(count) for count in np.cumsum(self._hits)[:TOP]),
            missing=absent,
            not_requested=len(missing) if limited else 0,
            extra=self._extra,
            failed=self._failed,
            first_missing=() if limited else tuple(missing[:_FIRST]),
            first_extra=tuple(self._first_extra),
            mean_class_top1=self._mean_class(),
            worst_classes=self._worst(),
            most_confused=self._most_confused(),
            matrix=self._matrix(),
        )

    def _mean_class(self) -> float:
        images, right, _ = self._of_class
        return float((right[images > 0] / images[images > 0]).mean())

    def _worst(self) -> tuple[ClassAccuracy, ...]:
        images, first, five = self._of_class
        share = np.divide(first, images, out=np.full(self._classes, np.inf), where=images > 0)
        order = [int(place) for place in np.argsort(share, kind="stable")[:_SHOWN] if images[place]]
        return tuple(
            ClassAccuracy(label=place, images=int(images[place]), top1=int(first[place]), top5=int(five[place]))
            for place in order
        )

    def _matrix(self) -> tuple[tuple[int, ...], ...]:
        if self._classes > _MATRIX:
            return ()
        matrix = np.diag(self._of_class[1])
        matrix.flat[self._pairs] = self._pair_counts
        return tuple(map(tuple, matrix.tolist()))

    def _most_confused(self) -> tuple[Confusion, ...]:
        order = np.argsort(-self._pair_counts, kind="stable")[:_SHOWN]
        return tuple(
            Confusion(
                label=int(self._pairs[place] // self._classes),
                predicted=int(self._pairs[place] % self._classes),
                images=int(self._pair_counts[place]),
            )
            for place in order
        )


def count_parts(paths: list[Path], labels: dict[str, int] | None, *, limited: bool = False) -> Accuracy:
    """Count predictions that lie in several files, reading no more of them at once than some thousand decisions.

    Raises:
        FormatError: a file holds no predictions, or those of a model with another number of classes.
        DataError: nothing has a label, or an image is predicted twice.
    """
    classes = classes_of(paths[0])
    for path in paths[1:]:
        if (others := classes_of(path)) != classes:
            raise FormatError(f"{path}: is of a model with {others} classes, {paths[0]} of one with {classes}")
    count = Count(classes, labels)
    for path in paths:
        for part in read_decisions(path):
            count.add(part)
    if twice := count.twice():
        raise DataError(_told_twice(paths, twice))
    return count.result(limited=limited)


def _told_twice(paths: list[Path], marks: set[int]) -> str:
    """Names the first image that is predicted more than once, and where."""
    found: dict[str, Path] = {}
    for path, key in _keys(paths):
        name = label_key(key)
        if hash(name) in marks:
            if name in found:
                return f"{name!r} is predicted twice, in {found[name]} and in {path}: leave one of them out"
            found[name] = path
    return f"{len(marks)} images are predicted twice"


def _keys(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["key"]):
                yield from ((path, key) for key in batch["key"].to_pylist())
