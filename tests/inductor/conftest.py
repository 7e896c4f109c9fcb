"""One package with all that a package can hold, built once: pixels in BGR, folded normalisation, kernels that tell their names."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch_models

from modelport.inductor.facts import PackageFacts
from modelport.inductor.package import PackageOptions, Pixels, build_package

SHAPE = (2, 3, 16, 12)
PIXELS = Pixels(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), reverse=True)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PackageFacts]:
    """The package and what `build_package` said of it. Not to be written to."""
    path = tmp_path_factory.mktemp("package") / "normalised.pt2"
    options = PackageOptions(pixels=PIXELS, profile=True)
    return path, build_package(torch_models.normalised_network(), SHAPE, path, options)
