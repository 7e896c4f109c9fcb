"""What can run here, found out by compiling and running a tiny classifier on each engine in each precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ..engines import load, names, open_model
from ..engines.base import CompileOptions
from ..engines.compiler import compile_model
from ..errors import EngineUnavailableError, ModelportError
from ..host import environment
from ..results import Environment, Result
from ..spec import Precision, Preprocess


class EngineCheck(Result):
    """One engine at one precision. `executed` is what really ran, `problem` why it did not."""

    engine: str
    version: str | None
    precision: Precision
    executed: Precision | None
    problem: str | None


class Diagnosis(Result):
    """The machine and every engine on it."""

    environment: Environment
    engines: tuple[EngineCheck, ...]


def examine() -> Diagnosis:
    """Try every engine in every precision it knows."""
    checks = []
    with tempfile.TemporaryDirectory() as directory:
        model, quantized = Path(directory) / "probe.onnx", Path(directory) / "probe-int8.onnx"
        _write_probe(model)
        _write_quantized(model, quantized)
        for name in names():
            checks += [
                _check(name, precision, quantized if precision is Precision.INT8 else model)
                for precision in load(name).precisions
            ]
    return Diagnosis(environment=environment(), engines=tuple(checks))


def _check(name: str, precision: Precision, model: Path) -> EngineCheck:
    version = executed = problem = None
    try:
        version = load(name).version()
        output = model.parent / f"{name}-{precision}"
        options = CompileOptions(precision=precision, program=_program(name, model.parent))
        compiled = compile_model(model, output, engine=name, options=options, preprocess=_PREPROCESS)
        with open_model(compiled) as session:
            session.infer(np.zeros(session.input.shape, np.float32))
        executed = compiled.manifest.precision.executed
    except EngineUnavailableError as error:
        problem = str(error)
    except ModelportError as error:
        problem = str(error).replace(f"{model}: ", "")
    return EngineCheck(engine=name, version=version, precision=precision, executed=executed, problem=problem)


def _program(engine: str, folder: Path) -> str | None:
    """What the probe is in PyTorch, for an engine that compiles that."""
    if not load(engine).from_program:
        return None
    from ..exporter.probes import save_probe

    path = folder / "probe.pt2"
    if not path.exists():
        save_probe(path, (1, *_PREPROCESS.input_size))
    return str(path)


_PREPROCESS = Preprocess(input_size=(3, 32, 32))


def _write_probe(path: Path) -> None:
    """Convolution, global pooling, 4 classes: enough for an engine to choose its arithmetic."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((16, 3, 3, 3), dtype=np.float32), "w1"),
        numpy_helper.from_array(rng.standard_normal((16, 4), dtype=np.float32), "w2"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w2"], ["class"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])
    scores = helper.make_tensor_value_info("class", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "probe", [image], [scores], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _write_quantized(probe: Path, path: Path) -> None:
    """The probe with every tensor quantised, results too: int8 in any engine. Its numbers mean nothing."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(probe)
    graph, nodes = model.graph, []
    graph.initializer.append(numpy_helper.from_array(np.float32(0.05), "scale"))

    def pair(tensor: str, result: str, zero: str) -> None:
        middle = f"{result}/int8"
        nodes.append(helper.make_node("QuantizeLinear", [tensor, "scale", zero], [middle]))
        nodes.append(helper.make_node("DequantizeLinear", [middle, "scale", zero], [result]))

    for name, kind in (("u8", np.uint8), ("i8", np.int8)):
        graph.initializer.append(numpy_helper.from_array(np.zeros((), kind), name))
    weights = {weight.name for weight in graph.initializer if weight.name.startswith("w")}
    for weight in sorted(weights):
        pair(weight, f"{weight}/back", "i8")
    pair("image", "image/back", "u8")
    for node in graph.node:
        node.input[:] = [f"{name}/back" for name in node.input]
        last = node.output[0] == "class"
        if last:
            node.output[0] = "class/float"
        nodes.append(node)
        pair(node.output[0], "class" if last else f"{node.output[0]}/back", "u8")
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]  # copies: clearing empties the rest
    del graph.node[:]
    graph.node.extend(kept)
    onnx.save(model, path)
