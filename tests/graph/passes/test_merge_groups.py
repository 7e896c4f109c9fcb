"""Merged groups: block-diagonal weights, the same answers, and nothing done to what is wide enough or depthwise."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'modelport[optimize]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from onnx import numpy_helper
from rewriting import build, refusal, rewrite, weights

from modelport.graph.passes.merge_groups import WIDTHS, MergeGroups


def grouped(groups: int, inputs: int, outputs: int):
    """One convolution: `inputs` and `outputs` of each group."""
    kernel = weights(groups * outputs, inputs, 3, 3)
    nodes = [("Conv", ["image", "kernel", "bias"], ["out"], {"group": groups, "pads": [1, 1, 1, 1]})]
    return build(nodes, {"kernel": kernel, "bias": weights(groups * outputs)}, channels=groups * inputs)


def merged(model) -> tuple[int, np.ndarray]:
    """Groups and weights of the convolution."""
    (node,) = model.graph.node
    group = next(attribute.i for attribute in node.attribute if attribute.name == "group")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return group, tensors[node.input[1]]


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs", "width", "left"),
    [
        (32, 4, 4, 16, 8),
        (32, 4, 4, 8, 16),
        (32, 2, 6, 16, 4),  # more outputs than inputs
        (32, 6, 2, 16, 8),  # 18 channels: 3 groups would do, and do not divide 32
        (6, 2, 2, 5, 2),  # 3 groups, of 6 channels
        (4, 4, 4, 512, 1),  # no group is so wide: all become one
        (7, 3, 3, 8, 1),  # a prime number of groups
    ],
)
def test_equal_and_as_wide_as_asked_for(groups, inputs, outputs, width, left):
    found = rewrite(MergeGroups(width), grouped(groups, inputs, outputs))

    group, kernel = merged(found.model)
    assert (found.sites, group, kernel.shape) == (1, left, (groups * outputs, inputs * groups // left, 3, 3))
    assert np.count_nonzero(kernel) == groups * outputs * inputs * 9, "zeros in between, and no weight lost"


@pytest.mark.parametrize(
    ("groups", "inputs", "why"), [(8, 1, "depthwise"), (4, 16, "wide enough"), (1, 8, "no groups")]
)
def test_left_as_it_is(groups, inputs, why):
    model = grouped(groups, inputs, 2)

    assert refusal(MergeGroups(16), model) == "no convolution has groups of 2 to 15 input channels", why


def test_one_after_another():
    """As the measured mode tries them: each on top of the one before."""
    model = grouped(32, 4, 4)
    for width in WIDTHS:
        model = rewrite(MergeGroups(width), model).model
        assert merged(model)[1].shape[1] == width


def test_the_label_and_the_variants():
    assert [variant.label for variant in MergeGroups.variants(None)] == [f"merge_groups:{width}" for width in WIDTHS]
    assert [variant.label for variant in MergeGroups.variants(24)] == ["merge_groups:24"]
