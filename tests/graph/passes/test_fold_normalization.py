"""Folding normalisation and constant factors: exact on both sides of a convolution, refused where padding forbids it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'modelport[optimize]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from rewriting import build, kinds, refusal, rewrite, statistics, weights

from modelport.graph.passes.fold_normalization import FoldNormalization

FOLD = FoldNormalization()
PADDED = {"pads": [1, 1, 1, 1]}
KERNEL = {"kernel": weights(8, 3, 3, 3), "bias": weights(8)}
NORMALISE = ["scale", "offset", "mean", "variance"]
PER_CHANNEL = np.abs(weights(1, 8, 1, 1)) + np.float32(0.5)


def conv(read: str = "image", made: str = "conv", kernel: str = "kernel", bias: str = "bias", **attributes: object):
    inputs = [read, kernel] + ([bias] if bias else [])
    return ("Conv", inputs, [made], PADDED | attributes)


AFTER = {
    "normalisation": ([("BatchNormalization", ["conv", *NORMALISE], ["out"], {"epsilon": 0.01})], statistics(8)),
    "factor per channel": ([("Mul", ["conv", "c"], ["out"], {})], {"c": PER_CHANNEL}),
    "factor first": ([("Mul", ["c", "conv"], ["out"], {})], {"c": PER_CHANNEL[0]}),
    "number": ([("Add", ["conv", "c"], ["out"], {})], {"c": np.float32(1.5)}),
    "subtracted": ([("Sub", ["conv", "c"], ["out"], {})], {"c": PER_CHANNEL}),
    "subtracted from": ([("Sub", ["c", "conv"], ["out"], {})], {"c": PER_CHANNEL}),
    "divided": ([("Div", ["conv", "c"], ["out"], {})], {"c": PER_CHANNEL}),
}


@pytest.mark.parametrize("case", AFTER)
@pytest.mark.parametrize("opset", [9, 11, 18])
def test_after_a_convolution(case, opset):
    nodes, constants = AFTER[case]

    found = rewrite(FOLD, build([conv(), *nodes], KERNEL | constants, opset=opset))

    assert (found.sites, kinds(found.model)) == (1, {"Conv": 1})
    assert found.model.graph.node[0].name == "Conv_0"
    assert found.model.graph.node[0].output[0] == "out"


def test_without_a_bias_and_with_groups():
    kernel = {"kernel": weights(8, 2, 3, 3)}
    nodes = [conv(bias="", group=4), ("BatchNormalization", ["conv", *NORMALISE], ["out"], {})]

    found = rewrite(FOLD, build(nodes, kernel | statistics(8), channels=8))

    assert kinds(found.model) == {"Conv": 1}
    assert len(found.model.graph.node[0].input) == 3


def test_a_chain_becomes_one_convolution():
    nodes = [
        conv(),
        ("BatchNormalization", ["conv", *NORMALISE], ["a"], {}),
        ("Mul", ["a", "c"], ["b"], {}),
        ("Add", ["c", "b"], ["out"], {}),
    ]

    found = rewrite(FOLD, build(nodes, KERNEL | statistics(8) | {"c": PER_CHANNEL}))

    assert (found.sites, kinds(found.model)) == (3, {"Conv": 1})


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("where", ["before", "after"])
def test_beside_a_gemm(transposed, where):
    matrix = weights(5, 3) if transposed else weights(3, 5)
    constants = {"matrix": matrix, "bias": weights(1, 5), "three": weights(3, seed=1), "five": weights(1, 5, seed=2)}
    attributes = {"transB": transposed, "alpha": 0.5, "beta": 3.0}
    body = [("GlobalAveragePool", ["image"], ["p"], {}), ("Flatten", ["p"], ["flat"], {})]
    if where == "before":
        body += [
            ("Mul", ["flat", "three"], ["a"], {}),
            ("Add", ["a", "three"], ["b"], {}),
            ("Gemm", ["b", "matrix", "bias"], ["out"], attributes),
        ]
    else:
        body += [
            ("Gemm", ["flat", "matrix", "bias"], ["a"], attributes),
            ("Mul", ["a", "five"], ["b"], {}),
            ("Add", ["b", "five"], ["out"], {}),
        ]

    found = rewrite(FOLD, build(body, constants, rank=2))

    assert (found.sites, kinds(found.model)["Gemm"], "Mul" in kinds(found.model)) == (2, 1, False)


def test_before_a_convolution_without_padding():
    nodes = [
        ("Sub", ["image", "shift"], ["a"], {}),
        ("BatchNormalization", ["a", *NORMALISE], ["b"], {}),
        conv("b", "out", pads=[0, 0, 0, 0]),
    ]

    found = rewrite(FOLD, build(nodes, KERNEL | statistics(3) | {"shift": weights(3, 1, 1)}))

    assert (found.sites, kinds(found.model)) == (2, {"Conv": 1})


def test_before_a_grouped_convolution():
    constants = statistics(8) | {"kernel": weights(12, 2, 3, 3), "bias": weights(12)}
    nodes = [("BatchNormalization", ["image", *NORMALISE], ["a"], {}), conv("a", "out", group=4, auto_pad="VALID")]
    nodes[1][3].pop("pads")

    found = rewrite(FOLD, build(nodes, constants, channels=8))

    assert kinds(found.model) == {"Conv": 1}


def test_of_an_input_normalisation_only_the_factor_goes_into_a_padded_convolution():
    """What `(x - mean) * scale` becomes; the shift would be missing at the edges."""
    nodes = [
        ("Sub", ["image", "shift"], ["a"], {}),
        ("Mul", ["a", "factor"], ["b"], {}),
        conv("b", "out"),
    ]

    found = rewrite(FOLD, build(nodes, KERNEL | {"shift": weights(3, 1, 1), "factor": weights(1, 3, 1, 1)}))

    assert (found.sites, kinds(found.model)) == (1, {"Conv": 1, "Sub": 1})
    assert found.refused == (
        "Sub 'Sub_0' stays before convolution 'Conv_2': its shift would be missing where that pads with zeros",
    )


@pytest.mark.parametrize("attributes", [PADDED, {"auto_pad": "SAME_UPPER"}])
def test_a_shift_before_a_padded_convolution_is_refused(attributes):
    nodes = [("Add", ["image", "c"], ["a"], {}), ("Conv", ["a", "kernel", "bias"], ["out"], attributes)]

    reason = refusal(FOLD, build(nodes, KERNEL | {"c": np.float32(1)}))

    assert (
        reason == "Add 'Add_0' stays before convolution 'Conv_1': its shift would be missing where that pads with zeros"
    )


def test_weights_that_two_convolutions_share_through_an_identity():
    nodes = [
        ("Identity", ["kernel"], ["same"], {}),
        conv(),
        conv(kernel="same", made="other"),
        ("Mul", ["conv", "c"], ["a"], {}),
        ("Add", ["a", "other"], ["out"], {}),
    ]

    found = rewrite(FOLD, build(nodes, KERNEL | {"c": PER_CHANNEL}))

    assert (found.sites, kinds(found.model)["Conv"], "Mul" in kinds(found.model)) == (1, 2, False)


SQUARE = {"kernel": weights(7, 3, 3, 3), "bias": weights(7)}
LEFT = {
    "along the width, not the channels": ([conv(), ("Mul", ["conv", "c"], ["out"], {})], SQUARE | {"c": weights(7)}),
    "a number per pixel": ([conv(), ("Mul", ["conv", "c"], ["out"], {})], KERNEL | {"c": weights(9, 7)}),
    "more channels than there were": (
        [conv(), ("Mul", ["conv", "c"], ["out"], {})],
        {"kernel": weights(1, 3, 3, 3), "bias": weights(1), "c": PER_CHANNEL},
    ),
    "read twice": ([conv(), ("Mul", ["conv", "c"], ["a"], {}), ("Add", ["a", "conv"], ["out"], {})], KERNEL | {"c": PER_CHANNEL}),
    "divided by nothing": ([conv(), ("Div", ["conv", "c"], ["out"], {})], KERNEL | {"c": np.float32(0)}),
    "a divisor": ([conv(), ("Div", ["c", "conv"], ["out"], {})], KERNEL | {"c": np.float32(1)}),
    "beyond float32": ([conv(), ("Mul", ["conv", "c"], ["out"], {})], KERNEL | {"c": np.float32(3e38)}),
    "computed weights": (
        [("Abs", ["image"], ["a"], {}), ("Conv", ["image", "a"], ["conv"], {}), ("Mul", ["conv", "c"], ["out"], {})],
        {"c": np.float32(2)},
    ),
    "by itself": ([conv(), ("Mul", ["conv", "conv"], ["out"], {})], KERNEL),
    "statistics of the batch": (
        [conv(), ("BatchNormalization", ["conv", *NORMALISE], ["out"], {"training_mode": 1})], KERNEL | statistics(8)
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_left_as_it_is(case):
    nodes, constants = LEFT[case]

    reason = refusal(FOLD, build(nodes, constants))

    assert reason == "no normalisation or constant factor stands beside a convolution or Gemm"


def test_a_convolution_whose_output_is_read_elsewhere_keeps_it():
    nodes = [conv(), ("Mul", ["conv", "c"], ["out"], {})]
    model = build(nodes, KERNEL | {"c": PER_CHANNEL}, outputs=("out", "conv"))

    assert refusal(FOLD, model).startswith("no normalisation")


def test_folding_is_more_exact_than_the_operators_one_by_one():
    """In float64 and rounded once: nearer to the true value than float32 factors are."""
    nodes = [conv(pads=[0, 0, 0, 0]), ("BatchNormalization", ["conv", *NORMALISE], ["out"], {})]
    found = FOLD.apply(build(nodes, KERNEL | statistics(8)))
    stats = {name: value.astype(np.float64) for name, value in statistics(8).items()}

    factor = stats["scale"] / np.sqrt(stats["variance"] + np.float64(np.float32(1e-5)))
    exact = (KERNEL["kernel"] * factor[:, None, None, None]).astype(np.float32)

    made = {tensor.name: tensor for tensor in found.model.graph.initializer}[found.model.graph.node[0].input[1]]
    assert np.array_equal(np.frombuffer(made.raw_data, np.float32).reshape(exact.shape), exact)
