"""The guide's `.info` list: lines of `index path width height`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import FormatError
from ...printable import printable
from ...schema import read_lines
from ..source import Sample
from .place import Place


def accepts(place: Place) -> bool:
    """A local file of this name, whether it is there or not."""
    return isinstance(place, Path) and place.suffix == ".info" and not place.is_dir()


def plan(places: list[Place]) -> Iterator[Sample]:
    """In the lists' order; relative paths are looked up from here, then from beside the list."""
    for place in places:
        assert isinstance(place, Path)
        for number, line in read_lines(place):
            match = re.fullmatch(r"(\d+) ([^\0]+) (\d+) (\d+)", line)
            if not match:
                raise FormatError(f"{place}:{number}: expected `index path width height`, got {line[:80]!r}")
            target = Path(match[2])
            if not target.is_absolute() and not os.path.exists(target):
                target = place.parent / target
            yield Sample(printable(target.name), target)
