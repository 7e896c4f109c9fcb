"""`Conv → activation → Split`: every form that exporters write, and what must not be split."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'modelport[optimize]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

import onnx
from rewriting import build, kinds, refusal, rewrite, statistics, weights

from modelport.graph.passes.split_convolutions import SplitConvolutions

SPLIT = SplitConvolutions()
CONV = ("Conv", ["image", "kernel", "bias"], ["conv"], {"pads": [1, 1, 1, 1]})
KERNEL = {"kernel": weights(8, 3, 3, 3), "bias": weights(8)}
JOIN = ("Concat", ["b", "a"], ["out"], {"axis": 1})  # in the other order, so that parts cannot be mixed up unnoticed


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


FORMS = {
    "attribute": (11, [("Split", ["conv"], ["a", "b"], {"axis": 1, "split": [3, 5]})], {}),
    "attribute, equal": (11, [("Split", ["conv"], ["a", "b"], {"axis": -3})], {}),
    "input": (13, [("Split", ["conv", "sizes"], ["a", "b"], {"axis": 1})], {"sizes": ints(3, 5)}),
    "number of outputs": (18, [("Split", ["conv"], ["a", "b"], {"axis": 1, "num_outputs": 2})], {}),
    "slices by attributes": (
        9,
        [
            ("Slice", ["conv"], ["a"], {"axes": [1], "starts": [0], "ends": [3]}),
            ("Slice", ["conv"], ["b"], {"axes": [1], "starts": [3], "ends": [2**31 - 1]}),
        ],
        {},
    ),
    "slices by inputs": (
        18,
        [
            ("Slice", ["conv", "zero", "five", "one"], ["a"], {}),
            ("Slice", ["conv", "minus", "far", "one", "one"], ["b"], {}),
        ],
        {"zero": ints(0), "five": ints(5), "one": ints(1), "minus": ints(-3), "far": ints(2**63 - 1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    opset, cuts, constants = FORMS[form]

    found = rewrite(SPLIT, build([CONV, *cuts, JOIN], KERNEL | constants, opset=opset))

    assert (found.sites, kinds(found.model)) == (1, {"Conv": 2, "Concat": 1})
    assert {name for node in found.model.graph.node for name in node.output} >= {"a", "b", "out"}, "names are kept"


def chain(*nodes: tuple, opset: int = 17, **constants: np.ndarray) -> onnx.ModelProto:
    """The convolution, these operators from `conv` to `x`, and a Split in halves."""
    halves = ("Split", ["x"], ["a", "b"], {"axis": 1} | ({"num_outputs": 2} if opset >= 18 else {}))
    return build([CONV, *nodes, halves, JOIN], KERNEL | constants, opset=opset)


CHAINS = {
    "LeakyRelu": chain(("LeakyRelu", ["conv"], ["x"], {"alpha": 0.2})),
    "SiLU": chain(("Sigmoid", ["conv"], ["s"], {}), ("Mul", ["conv", "s"], ["x"], {})),
    "HardSwish": chain(("HardSwish", ["conv"], ["x"], {})),
    "hard swish, written out": chain(
        ("Add", ["conv", "three"], ["p"], {}),
        ("Clip", ["p", "zero", "six"], ["q"], {}),
        ("Mul", ["conv", "q"], ["r"], {}),
        ("Div", ["r", "six"], ["x"], {}),
        three=np.float32(3), zero=np.float32(0), six=np.float32(6),
    ),
    "GELU, written out": chain(
        ("Mul", ["conv", "half"], ["p"], {}),
        ("Erf", ["p"], ["q"], {}),
        ("Add", ["q", "one"], ["r"], {}),
        ("Mul", ["conv", "r"], ["x"], {}),
        half=np.float32(0.70710677), one=np.float32(1),
    ),
    "slopes per channel": chain(("PRelu", ["conv", "slope"], ["x"], {}), slope=weights(8, 1, 1)),
    "normalisation": chain(
        ("BatchNormalization", ["conv", "scale", "offset", "mean", "variance"], ["n"], {}),
        ("Relu", ["n"], ["x"], {}),
        **statistics(8),
    ),
    "factor per channel": chain(("Mul", ["conv", "c"], ["x"], {}), c=weights(1, 8, 1, 1)),
    "factor per pixel": chain(("Mul", ["conv", "c"], ["x"], {}), c=weights(9, 7)),
    "Gelu": chain(("Gelu", ["conv"], ["x"], {}), opset=20),
    "through an Identity": chain(("Identity", ["conv"], ["i"], {}), ("Tanh", ["i"], ["x"], {})),
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS)
def test_what_lies_in_between_is_cut_along(case):
    found = rewrite(SPLIT, CHAINS[case])

    before, after = kinds(CHAINS[case]), kinds(found.model)
    assert "Split" not in after
    assert {kind: count * 2 for kind, count in before.items() if kind not in ("Split", "Concat")} == {
        kind: count for kind, count in after.items() if kind != "Concat"
    }


def test_three_parts_one_of_which_nobody_reads():
    nodes = [CONV, ("Split", ["conv"], ["a", "unread", "b"], {"axis": 1, "split": [1, 4, 3]}), JOIN]

    found = rewrite(SPLIT, build(nodes, KERNEL, opset=11))

    assert kinds(found.model) == {"Conv": 2, "Concat": 1}


def test_without_a_bias_and_with_strides():
    conv = ("Conv", ["image", "kernel"], ["conv"], {"strides": [2, 1], "dilations": [1, 2]})
    nodes = [conv, ("Split", ["conv"], ["a", "b"], {"axis": 1}), JOIN]

    found = rewrite(SPLIT, build(nodes, {"kernel": KERNEL["kernel"]}))

    assert all(len(node.input) == 2 for node in found.model.graph.node if node.op_type == "Conv")


@pytest.mark.parametrize(("outputs", "groups"), [(8, 8), (8, 4), (16, 4), (4, 4)])
def test_a_grouped_convolution_in_between_whose_groups_stay_whole(outputs, groups):
    grouped = ("Conv", ["r", "wide", "more"], ["x"], {"group": groups})
    constants = {"wide": weights(outputs, 8 // groups, 1, 1), "more": weights(outputs)}
    nodes = [CONV, ("Relu", ["conv"], ["r"], {}), grouped, ("Split", ["x"], ["a", "b"], {"axis": 1}), JOIN]

    found = rewrite(SPLIT, build(nodes, KERNEL | constants))

    assert kinds(found.model) == {"Conv": 4, "Relu": 2, "Concat": 1}
    assert [a.i for node in found.model.graph.node for a in node.attribute if a.name == "group"] == [groups // 2] * 2


REFUSED = {
    "a group that is cut": (
        [
            CONV,
            ("Conv", ["conv", "wide"], ["x"], {"group": 2}),
            ("Split", ["x"], ["a", "b"], {"axis": 1, "split": [3, 5]}),
        ],
        {"wide": weights(8, 4, 1, 1)},
        "'x' is left as it is: channels 0…2 cut a group of convolution 'Conv_1', whose groups make 4 channels each",
    ),
    "grouped, on the input": (
        [("Conv", ["image", "wide"], ["conv"], {"group": 3}), ("Split", ["conv"], ["a", "b"], {"axis": 1, "split": [1, 2]})],
        {"wide": weights(3, 1, 1, 1)},
        None,
    ),
    "read as a whole as well": (
        [CONV, ("Split", ["conv"], ["a", "c"], {"axis": 1}), ("Relu", ["conv"], ["b"], {})],
        {},
        "'conv' is left as it is: Relu 'Relu_2' reads all of its channels as well",
    ),
    "read inside": (
        [CONV, ("Relu", ["conv"], ["x"], {}), ("Split", ["x"], ["a", "c"], {"axis": 1}), ("Tanh", ["conv"], ["b"], {})],
        {},
        "'x' is left as it is: 'conv' is read elsewhere as well",
    ),
    "a sum": (
        [
            CONV,
            ("Conv", ["image", "kernel"], ["c"], {"pads": [1, 1, 1, 1]}),
            ("Add", ["conv", "c"], ["x"], {}),
            ("Split", ["x"], ["a", "b"], {"axis": 1}),
        ],
        {},
        "'x' is left as it is: 2 values meet before it",
    ),
    "computed weights": (
        [("Relu", ["kernel"], ["w"], {}), ("Add", ["w", "image"], ["w2"], {}), ("Conv", ["image", "w2"], ["conv"], {}),
         ("Split", ["conv"], ["a", "b"], {"axis": 1, "split": [4, 4]})],
        {"kernel": weights(8, 3, 9, 7)},
        "'conv' is left as it is: the weights of convolution 'Conv_2' are computed",
    ),
    "another axis": ([CONV, ("Split", ["conv"], ["a", "b"], {"axis": 2, "split": [4, 5]})], {}, None),
    "no convolution": ([("Relu", ["image"], ["x"], {}), ("Split", ["x"], ["a", "b"], {"axis": 1, "split": [1, 2]})], {}, None),
    "wrong number of channels": (
        [("Conv", ["image", "one"], ["conv"], {}), ("Mul", ["conv", "c"], ["x"], {}), ("Split", ["x"], ["a", "b"], {"axis": 1})],
        {"one": weights(1, 3, 1, 1), "c": weights(8, 1, 1)},
        "'x' is left as it is: constant 'c' (input 1 of Mul) has shape (8, 1, 1), which does not fit 1 channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_left_as_it_is(case):
    nodes, constants, reason = REFUSED[case]
    model = build(nodes, KERNEL | constants, outputs=("a", "b"), opset=11)

    told = refusal(SPLIT, model)

    assert told == (reason or SPLIT.nothing)


SLICES = {
    "overlap": (ints(0), ints(5), ints(3), ints(8), ints(1), "its parts overlap"),
    "every other": (ints(0), ints(4), ints(4), ints(8), ints(2), "Slice 'Slice_1' takes every 2th channel"),
}


@pytest.mark.parametrize("case", SLICES)
def test_slices_that_are_no_parts(case):
    *values, reason = SLICES[case]
    constants = dict(zip(("s1", "e1", "s2", "e2", "step"), values, strict=True)) | {"axis": ints(1)}
    cuts = [("Slice", ["conv", f"s{n}", f"e{n}", "axis", "step"], [out], {}) for n, out in ((1, "a"), (2, "b"))]

    assert refusal(SPLIT, build([CONV, *cuts, JOIN], KERNEL | constants)) == f"'conv' is left as it is: {reason}"


def test_a_part_that_is_the_graphs_output():
    nodes = [CONV, ("Split", ["conv"], ["a", "b"], {"axis": 1}), JOIN]

    found = rewrite(SPLIT, build(nodes, KERNEL, outputs=("out", "a")))

    assert [value.name for value in found.model.graph.output] == ["out", "a"]


def test_what_is_the_graphs_output_itself_is_not_split():
    nodes = [CONV, ("Split", ["conv"], ["a", "b"], {"axis": 1}), JOIN]

    reason = refusal(SPLIT, build(nodes, KERNEL, outputs=("out", "conv")))

    assert reason == "'conv' is left as it is: it is the graph's output"


def test_one_place_is_split_and_another_is_told():
    nodes = [
        CONV,
        ("Split", ["conv"], ["a", "b"], {"axis": 1}),
        ("Relu", ["b"], ["r"], {}),
        ("Conv", ["r", "second"], ["s"], {}),
        ("Split", ["s"], ["c", "d"], {"axis": 1}),
        ("Concat", ["a", "c", "d", "s"], ["out"], {"axis": 1}),
    ]

    found = rewrite(SPLIT, build(nodes, KERNEL | {"second": weights(6, 4, 1, 1)}))

    assert (found.sites, kinds(found.model)["Split"]) == (1, 1)
    assert found.refused == ("'s' is left as it is: Concat 'Concat_5' reads all of its channels as well",)


@pytest.mark.parametrize("name", ["cspresnext50-11", "cspresnext50-18", "cspdarknet53-18"])
@pytest.mark.timeout(240)
def test_cross_stage_partial_networks(csp_network, name):
    path, cuts, sites = csp_network(name)
    model = onnx.load(path)
    assert {kind: count for kind, count in kinds(model).items() if kind in ("Split", "Slice")} in cuts

    found = rewrite(SPLIT, model)

    assert found.sites == sites
    assert not {"Split", "Slice"} & set(kinds(found.model))
    assert kinds(found.model)["Conv"] == kinds(model)["Conv"] + sites
