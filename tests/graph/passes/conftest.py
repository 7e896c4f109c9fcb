"""Exports that the passes are tried on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

_CUTS = {
    "cspresnext50-11": ([{"Split": 4}], 4),
    "cspresnext50-18": ([{"Split": 4}], 4),
    "cspdarknet53-18": (
        [{"Slice": 10}, {"Split": 5}],
        5,
    ),  # as pairs of Slices, or not, as the exporter's version has it
}


@pytest.fixture(scope="session")
def csp_network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, list[dict[str, int]], int]]:
    """`csp_network("cspdarknet53-18")`: its file, how its channels may be cut there, and in how many places. Not to be written to."""

    @cache
    def export_once(name: str) -> Path:
        if name == "cspresnext50-18":
            return request.getfixturevalue("demo_directory") / "model.onnx"
        pytest.importorskip("timm", reason="timm is not installed: pip install 'modelport[export]'")
        from modelport.exporter import ExportOptions, export
        from modelport.spec import Preprocess

        arch, _, opset = name.partition("-")
        options = ExportOptions(
            arch=arch, opset=int(opset), num_classes=10, preprocess=Preprocess(input_size=(3, 64, 64))
        )
        return export(options, tmp_path_factory.mktemp("csp") / f"{name}.onnx").path

    return lambda name: (export_once(name), *_CUTS[name])
