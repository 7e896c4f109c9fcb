"""`Concat → Conv 1x1` as a sum: exact with whatever acts on single channels in between."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'modelport[optimize]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from rewriting import build, kinds, refusal, rewrite, statistics, weights

from modelport.graph.passes.sum_concat_convolution import SumConcatConvolution

SUM = SumConcatConvolution()
TWO = [("Conv", ["image", "k1"], ["a"], {}), ("Conv", ["image", "k2"], ["b"], {})]
CONSTANTS = {"k1": weights(5, 3, 1, 1), "k2": weights(3, 3, 1, 1), "wide": weights(6, 8, 1, 1), "bias": weights(6)}
CONCAT = ("Concat", ["a", "b"], ["c"], {"axis": 1})


def conv(read: str, **attributes: object) -> tuple:
    return ("Conv", [read, "wide", "bias"], ["out"], attributes)


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("axis", [1, -3])
def test_a_sum_with_the_bias_once(opset, axis):
    nodes = [*TWO, ("Concat", ["a", "b"], ["c"], {"axis": axis}), conv("c", strides=[2, 2])]

    found = rewrite(SUM, build(nodes, CONSTANTS, opset=opset))

    assert (found.sites, kinds(found.model)) == (1, {"Conv": 4, "Add": 1})


def test_three_parts_one_of_them_twice_and_without_a_bias():
    nodes = [*TWO, ("Concat", ["b", "a", "b"], ["c"], {"axis": 1}), ("Conv", ["c", "wider"], ["out"], {})]

    found = rewrite(SUM, build(nodes, CONSTANTS | {"wider": weights(6, 11, 1, 1)}))

    assert kinds(found.model) == {"Conv": 5, "Add": 2}


BETWEEN = {
    "activation": ([("LeakyRelu", ["c"], ["x"], {"alpha": 0.3})], {}, {"LeakyRelu": 2}),
    "SiLU": ([("Sigmoid", ["c"], ["s"], {}), ("Mul", ["c", "s"], ["x"], {})], {}, {"Sigmoid": 2, "Mul": 2}),
    "normalisation and activation": (
        [("BatchNormalization", ["c", "scale", "offset", "mean", "variance"], ["n"], {}), ("Relu", ["n"], ["x"], {})],
        statistics(8),
        {"BatchNormalization": 2, "Relu": 2},
    ),
    "factor per channel": ([("Mul", ["f", "c"], ["x"], {})], {"f": weights(8, 1, 1)}, {"Mul": 2}),
}


@pytest.mark.parametrize("case", BETWEEN)
def test_what_acts_on_single_channels_moves_before_the_concat(case):
    nodes, constants, moved = BETWEEN[case]

    found = rewrite(SUM, build([*TWO, CONCAT, *nodes, conv("x")], CONSTANTS | constants))

    assert kinds(found.model) == {"Conv": 4, "Add": 1} | moved


LEFT = {
    "concat read elsewhere": (
        [*TWO, CONCAT, conv("c"), ("Relu", ["c"], ["more"], {})],
        "convolution 'Conv_3' is left as it is: Concat 'Concat_2' is read elsewhere as well",
    ),
    "activation read elsewhere": (
        [*TWO, CONCAT, ("Relu", ["c"], ["x"], {}), conv("x"), ("Tanh", ["x"], ["more"], {})],
        "convolution 'Conv_4' is left as it is: 'x' is read elsewhere as well",
    ),
    "padded": ([*TWO, CONCAT, conv("c", pads=[1, 1, 1, 1]), ("Relu", ["a"], ["more"], {})], SUM.nothing),
    "not pointwise in between": (
        [*TWO, CONCAT, ("MaxPool", ["c"], ["x"], {"kernel_shape": [2, 2]}), conv("x"), ("Relu", ["a"], ["more"], {})],
        SUM.nothing,
    ),
    "another axis": (
        [("Conv", ["image", "k8"], ["a"], {}), ("Concat", ["a", "a"], ["c"], {"axis": 2}), conv("c"), ("Relu", ["a"], ["more"], {})],
        SUM.nothing,
    ),
    "no concat": ([("Conv", ["image", "k8"], ["c"], {}), conv("c"), ("Relu", ["c"], ["more"], {})], SUM.nothing),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_left_as_it_is(case):
    nodes, reason = LEFT[case]

    assert refusal(SUM, build(nodes, CONSTANTS | {"k8": weights(8, 3, 1, 1)}, outputs=("out", "more"))) == reason


def test_a_larger_kernel_is_left():
    nodes = [*TWO, CONCAT, ("Conv", ["c", "k3"], ["out"], {})]

    assert refusal(SUM, build(nodes, CONSTANTS | {"k3": weights(6, 8, 3, 3)})) == SUM.nothing


def test_parts_of_unknown_size():
    nodes = [
        ("Shape", ["image"], ["shape"], {}),
        ("Reshape", ["image", "shape"], ["a"], {}),
        *TWO[1:],
        CONCAT,
        ("Conv", ["c", "six"], ["out"], {}),
    ]
    model = build(nodes, CONSTANTS | {"six": weights(6, 6, 1, 1)})
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "C"

    assert refusal(SUM, model) == (
        "convolution 'Conv_4' is left as it is: the channels of the parts of Concat 'Concat_3' are not known"
    )


def test_the_bias_is_added_once_exactly():
    nodes = [*TWO, CONCAT, conv("c")]
    zero = CONSTANTS | {"wide": np.zeros((6, 8, 1, 1), np.float32)}

    found = rewrite(SUM, build(nodes, zero), tolerance=0)

    assert sum(len(node.input) == 3 for node in found.model.graph.node if node.op_type == "Conv") == 1
