"""Names of a model's classes, from a file: a line for each class from 0, or JSON as Keras and Hugging Face write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import limits
from ..errors import FormatError
from ..natural import natural
from ..printable import printable
from ..schema import parse_json, read_text

_EXPECTED = 'expected a list of names, or a mapping of class numbers to names such as {"0": "tench"}'


def read_class_names(path: Path | str) -> tuple[str, ...]:
    """Read class names, in order of their classes; what is not printable in them is escaped.

    A `.json` file holds a list of names, or a mapping of class numbers to names; where a name is a list itself, such as
    `["n01440764", "tench"]`, its last part is taken. Any other file has a name in each line, the first is class 0's.

    Raises:
        FormatError: it cannot be read, or a class has no name; the message has the class's place.
    """
    path = Path(path)
    text = read_text(path)
    names = _from_json(path, text) if path.suffix.lower() == ".json" else _from_lines(text)
    if not names:
        raise FormatError(f"{path}: holds no class names; expected a line for each class, from class 0")
    for label, name in enumerate(names):
        if not name:
            raise FormatError(
                f"{path}: class {label} has no name (an empty line?); each line is one class, from class 0"
            )
        if len(name) > limits.LINE_CHARACTERS:
            raise FormatError(
                f"{path}: the name of class {label} has {len(name):,} characters, more than {limits.LINE_CHARACTERS:,}"
            )
    return tuple(names)


def _from_lines(text: str) -> list[str]:
    return [printable(line.strip()) for line in text.rstrip().splitlines()]


def _from_json(path: Path, text: str) -> list[str]:
    values = parse_json(text, str(path))
    if isinstance(values, dict):
        numbers = {natural(key): value for key, value in values.items()}
        if set(numbers) != set(range(len(values))):
            raise FormatError(f"{path}: its keys are not the class numbers 0 to {len(values) - 1}; {_EXPECTED}")
        values = [numbers[label] for label in range(len(numbers))]
    if not isinstance(values, list):
        raise FormatError(f"{path}: is neither a list nor a mapping; {_EXPECTED}")
    return [_name(path, label, value) for label, value in enumerate(values)]


def _name(path: Path, label: int, value: Any) -> str:
    if isinstance(value, list) and value:
        value = value[-1]
    if not isinstance(value, str):
        raise FormatError(f"{path}: class {label} is not a name but {type(value).__name__}; {_EXPECTED}")
    return printable(value.strip())
