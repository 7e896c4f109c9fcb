"""Images with labels that the tests of LoadGen share, and what they all need."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
from flat_images import write_images

IMAGES = 20


@pytest.fixture(scope="session", autouse=True)
def loadgen_is_there() -> None:
    pytest.importorskip("mlperf_loadgen")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty small images, and beside their folder `labels.txt`. Not to be written to."""
    folder = write_images(tmp_path_factory.mktemp("loadgen") / "images", IMAGES)
    lines = [f"{place:04}.png {place % models.CLASSES}\n" for place in range(IMAGES)]
    (folder.parent / "labels.txt").write_text("".join(lines))
    return folder
