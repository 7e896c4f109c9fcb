"""A small classifier in which every rewrite of graphs finds something, and timings without a clock."""

from __future__ import annotations

import models
import numpy as np
import onnx
from onnx import helper, numpy_helper

from modelport.graph.classifier import SPEC_KEY
from modelport.results import Hygiene, PairedTiming
from modelport.spec import ModelSpec, Preprocess

PREPROCESS = Preprocess(input_size=(3, 12, 10))
SPEC = ModelSpec(arch="small-csp", num_classes=6, preprocess=PREPROCESS)


def small(*, batch: int | str = "N", spec: ModelSpec | None = SPEC, gain: float = 1.0) -> onnx.ModelProto:
    """A classifier in which every pass finds something. `gain` multiplies the first weights."""
    rng = np.random.default_rng(4)
    shapes = {"stem": (32, 3, 3, 3), "grouped": (32, 4, 3, 3), "first": (8, 32, 1, 1), "last": (6, 8, 1, 1)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights["stem"] *= np.float32(gain)
    weights |= {name: rng.uniform(0.5, 2, 32).astype(np.float32) for name in ("scale", "offset", "mean", "variance")}
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["s"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["s", "scale", "offset", "mean", "variance"], ["n"]),
        helper.make_node("Identity", ["n"], ["i"]),
        helper.make_node("Conv", ["i", "grouped"], ["g"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["g", "first"], ["f"]),
        helper.make_node("LeakyRelu", ["f"], ["r"]),
        helper.make_node("Split", ["r"], ["a", "b"], axis=1),
        helper.make_node("Concat", ["b", "a"], ["c"], axis=1),
        helper.make_node("Conv", ["c", "last"], ["l"]),
        helper.make_node("GlobalAveragePool", ["l"], ["p"]),
        helper.make_node("Flatten", ["p"], ["scores"]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    inputs, outputs = [models.tensor("image", [batch, 3, 12, 10])], [models.tensor("scores", [batch, 6])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    if spec is not None:
        model.metadata_props.add(key=SPEC_KEY, value=spec.model_dump_json())
    model.metadata_props.add(key="theirs", value="kept")
    return model


def timing(ratio: float, spread: float = 0.0, *, busy: bool = False) -> PairedTiming:
    """Twelve pairs whose median ratio is this, `spread` to either side."""
    ratios = np.linspace(ratio - spread, ratio + spread, 12)
    hygiene = Hygiene(busy_before=1.0 if busy else 0.0, reasons=("somebody",) if busy else ())
    return PairedTiming(before_s=tuple(0.01 * ratios), after_s=(0.01,) * 12, processes=2, hygiene=(hygiene,))
