"""PyTorch's tensors under the names of the exported file: as many as can be found, and each of them the right one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from modelport.comparison.network import Network
from modelport.engines import load
from modelport.exporter import ExportOptions, export
from modelport.exporter.export import load_network
from modelport.exporter.taps import Spot, TorchTaps
from modelport.graph import read_classifier
from modelport.spec import Precision, Preprocess

SIZE = (3, 64, 64)
Exported = Callable[[str, int], tuple[Any, Path]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, require_engine) -> Exported:
    """`exported(arch, opset)`: a network and its file, by torch's TorchScript exporter (below 18) or by dynamo's."""
    require_engine("onnxruntime")
    return cache(lambda arch, opset: _export(arch, opset, tmp_path_factory.mktemp(arch)))


# Activations in modules of their own and in place, an average pool in the shortcut; BatchNormAct2d, squeeze-and-excitation.
@pytest.mark.parametrize(("arch", "opset"), [("resnet10t", 13), ("mobilenetv3_small_050", 13)])
def test_each_tensor_is_the_files_own(arch: str, opset: int, tmp_path: Path, exported: Exported) -> None:
    network, path = exported(arch, opset)
    batch = np.random.default_rng(0).standard_normal((2, *SIZE), dtype=np.float32)
    taps = TorchTaps(network, onnx.load(path), batch)
    graph = Network.read(read_classifier(path), SIZE, tmp_path)
    names = [name for name in taps.spots if name in graph.shapes]
    assert len(names) >= 0.8 * len(graph.shapes)  # opset 13 writes a hard swish as two operators
    ours, scores = taps.run(batch, names)
    onnx.save(graph.tapped(names, 2), tmp_path / "tapped.onnx")
    theirs = load("onnxruntime").tap(tmp_path / "tapped.onnx", Precision.F32, plain=True)({"image": batch})
    assert np.abs(scores - theirs["class"]).max() <= 1e-4 * np.abs(scores).max()
    wrong = [
        (name, taps.spots[name])
        for name in names
        if ours[name].shape == theirs[name].shape
        and np.linalg.norm(ours[name] - theirs[name]) > 1e-4 * np.linalg.norm(theirs[name])
    ]
    assert wrong == []


def _export(arch: str, opset: int, folder: Path) -> tuple[Any, Path]:
    options = ExportOptions(
        arch=arch, num_classes=5, preprocess=Preprocess(input_size=SIZE), opset=opset, tolerance=1e-3
    )
    network, _, _ = load_network(options)
    for module in network.modules():  # random weights leave normalisations that do nothing, or give nothing but zeros
        if "BatchNorm" in type(module).__name__:
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                values.data.uniform_(0.5, 1.5)
    import torch

    path = folder / "weights.pth"
    torch.save(network.state_dict(), path)
    return network, export(replace(options, checkpoint=path), folder / "model.onnx").path


def test_a_folded_normalisation_is_what_the_activation_gets(exported: Exported) -> None:
    """In PyTorch the convolution's own result is another tensor, before the normalisation."""
    network, path = exported("resnet10t", 13)
    taps = TorchTaps(network, onnx.load(path), np.zeros((2, *SIZE), np.float32))
    first = next(node for node in onnx.load(path).graph.node if node.op_type == "Conv")
    assert first.name == "/conv1/conv1.0/Conv"
    assert taps.spots[first.output[0]] == Spot("conv1.2", "input")


def test_a_file_that_names_no_modules_has_no_tensors_in_common(csp_onnx: Path, exported: Exported) -> None:
    network, _ = exported("resnet10t", 13)
    assert TorchTaps(network, onnx.load(csp_onnx), np.zeros((2, *SIZE), np.float32)).spots == {}
