"""Labels by image name: the guide's `val_label.txt`."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, FormatError
from ..schema import read_text


def label_key(name: str) -> str:
    """The name under which an image's label is looked up: up to the first dot of its file name, class folder kept."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def read_labels(path: Path | str) -> dict[str, int]:
    """Read lines of `name class`, class counted from 0; keys are `label_key(name)`.

    Raises:
        FormatError: the file cannot be read, a line is malformed, a name comes twice; the message has the line's number.
    """
    path = Path(path)
    labels: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, _, text = line.strip().rpartition(" ")
        if not name or not text.isdecimal():
            raise FormatError(f"{path}:{number}: expected `name class` with a class from 0, got {line.strip()[:80]!r}")
        key = label_key(name.strip())
        if key in labels:
            raise FormatError(f"{path}:{number}: {key!r} is labelled a second time")
        labels[key] = int(text)
    if not labels:
        raise FormatError(f"{path}: holds no labels; expected lines of `name class`")
    return labels


def require_in_range(labels: dict[str, int], classes: int, where: Path | str) -> None:
    """Raise DataError where a label is not a class of the model."""
    worst = max(labels, key=labels.__getitem__)
    if labels[worst] >= classes:
        raise DataError(
            f"{where}: {worst!r} has label {labels[worst]}, the model has classes 0 to {classes - 1}; "
            "are these the labels of this model, counted from 0?"
        )
