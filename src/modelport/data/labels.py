"""Labels by image name: the guide's `val_label.txt`."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, FormatError
from ..natural import natural
from ..printable import printable
from ..schema import parse_json, read_lines, read_text


def label_key(name: str) -> str:
    """The name under which an image's label is looked up: up to the first dot of its file name, class folder kept, printable."""
    folder, slash, file = printable(name).rpartition("/")
    return folder + slash + file.partition(".")[0]


def read_labels(path: Path | str) -> dict[str, int]:
    """Read lines of `name class`, class counted from 0; keys are `label_key(name)`.

    A directory is read as the relatives of the guide's script do: one JSON file per image, named like it, whose class is
    `image.annotations[0].category_id`.

    Raises:
        FormatError: the file cannot be read, a line is malformed, a name comes twice; the message has the line's number.
    """
    path = Path(path)
    if path.is_dir():
        return _read_json_labels(path)
    labels: dict[str, int] = {}
    for number, line in read_lines(path):
        name, _, text = line.rpartition(" ")
        label = natural(text)
        if not name or label is None:
            raise FormatError(f"{path}:{number}: expected `name class` with a class from 0, got {line[:80]!r}")
        key = label_key(name.strip())
        if key in labels:
            raise FormatError(f"{path}:{number}: {key!r} is labelled a second time")
        labels[key] = label
    if not labels:
        raise FormatError(f"{path}: holds no labels; expected lines of `name class`")
    return labels


def _read_json_labels(directory: Path) -> dict[str, int]:
    labels: dict[str, int] = {}
    for path in sorted(directory.glob("*.json")):
        values = parse_json(read_text(path), str(path))
        try:
            label = values["image"]["annotations"][0]["category_id"]
        except (KeyError, IndexError, TypeError) as error:
            raise FormatError(f"{path}: expected image.annotations[0].category_id, found none ({error})") from error
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise FormatError(f"{path}: image.annotations[0].category_id is {label!r}, expected a class from 0")
        key = label_key(path.name)
        if key in labels:
            raise FormatError(f"{path}: {key!r} is labelled a second time")
        labels[key] = label
    if not labels:
        raise FormatError(f"{directory}: holds no .json label files")
    return labels


def require_in_range(labels: dict[str, int], classes: int, where: Path | str) -> None:
    """Raise DataError where a label is not a class of the model."""
    worst = max(labels, key=labels.__getitem__)
    if labels[worst] >= classes:
        raise DataError(
            f"{where}: {worst!r} has label {labels[worst]}, the model has classes 0 to {classes - 1}; "
            "are these the labels of this model, counted from 0?"
        )
