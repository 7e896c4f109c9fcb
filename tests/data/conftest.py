"""Photographs and image encodings that the tests of `modelport.data` share."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photographs() -> dict[str, Image.Image]:
    """Two real photographs (640 x 427), RGB, by name."""
    datasets = pytest.importorskip("sklearn.datasets")
    return {name: Image.fromarray(datasets.load_sample_image(f"{name}.jpg")) for name in ("china", "flower")}


@pytest.fixture(scope="session")
def china(photographs: dict[str, Image.Image]) -> Image.Image:
    """One photograph, small."""
    return photographs["china"].resize((97, 61))


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """An image as a file's bytes: `encode(image, "PNG", **save_options)`."""

    def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture
def make_files(tmp_path: Path) -> Callable[..., Path]:
    """Make files with their own names as content: `make_files("a/1.png", "b/2.png")` returns the folder."""

    def make(*names: str, root: str = "images") -> Path:
        folder = tmp_path / root
        folder.mkdir(exist_ok=True)
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return folder

    return make
