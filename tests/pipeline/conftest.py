"""Sources of raw inputs and of good and bad images; and no thread is left behind by any of these tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from modelport.data.source import Sample, Source


@pytest.fixture
def numbered(tmp_path) -> Callable[[int], Source]:
    """`numbered(n)`: raw inputs 0…n-1, number i filled with (i + 1) / 10."""

    def make(count: int) -> Source:
        samples = []
        for number in range(count):
            path = tmp_path / f"{number:04}.bin"
            path.write_bytes(np.full((3, 4, 4), (number + 1) / 10, dtype="<f4").tobytes())
            samples.append(Sample(path.name, path))
        return Source(str(tmp_path), tuple(samples))

    return make


@pytest.fixture
def mixed(tmp_path) -> Source:
    """Ten images; those at 1, 4, 5 and 9 are bad, each in its own way."""
    samples = []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (9, 7), (25 * number + 5,) * 3).save(path)
        samples.append(Sample(path.name, path))
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "4.png").unlink()
    (tmp_path / "5.png").write_text("no image")
    (tmp_path / "9.png").write_bytes((tmp_path / "8.png").read_bytes()[:50])
    return Source(str(tmp_path), tuple(samples))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) - before == set()
