"""What can run here and what does not, found out by compiling and running a tiny classifier on each engine in each precision."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np

from ..engines import load, names, open_model
from ..engines.base import CompileOptions
from ..engines.compiler import compile_model
from ..errors import EngineUnavailableError, ModelportError
from ..exclusive import Watch
from ..host import environment, usable_cores
from ..results import Accelerator, Diagnosis, EngineCheck, OptionalPackage, Problem, Telemetry
from ..spec import Precision, Preprocess
from ..telemetry import elsewhere
from . import machine, problems
from .disk import measure_disk

_PROGRAM = "probe.pt2"
_MOST_S = 60.0  # that an engine's compiler may take for a network of two layers
_OPTIONAL = (  # package, what it serves, extra
    ("nncf", "int8 models for OpenVINO cannot be made", "int8"),
    ("torch", "checkpoints cannot be exported", "export"),
    ("timm", "checkpoints cannot be exported", "export"),
    ("onnxscript", "graphs cannot be optimised", "optimize"),
    ("ray", "runs cannot be spread over a cluster", "ray"),
    ("fsspec", "images cannot be read from stores", "remote"),
    ("mlcommons-loadgen", "`modelport loadgen` cannot run", "loadgen"),
)
_TELEMETRY = {  # product: module that reports, command that switches it off for all programs
    "OpenVINO and NNCF": ("openvino_telemetry", "opt_in_out --opt_out"),
    "ONNX Runtime": ("onnxruntime", "export ORT_DISABLE_TELEMETRY=1, in ~/.profile"),
    "Ray": ("ray", "ray disable-usage-stats"),
}


def examine(disk: Path | None = None) -> Diagnosis:
    """Look at the machine, and try every engine in every precision it knows.

    Args:
        disk: directory whose disk is measured; None takes the one for temporary files, where models are compiled.

    Raises:
        OutputError: nothing can be written there.
    """
    reporting = elsewhere(os.environ, Path.home())  # before an engine is loaded, which switches all of it off
    watched = Watch()
    watched.finish()
    assert watched.hygiene is not None
    measured = measure_disk(disk or tempfile.gettempdir())
    processor, memory = machine.processor(), machine.memory()
    engines = _try_engines()
    devices = (*machine.accelerators(), *_of_runtimes())
    packages, telemetry = tuple(_packages()), tuple(_telemetry(reporting))
    found: Iterator[Problem] = chain(
        problems.of_engines(engines),
        problems.of_processor(processor),
        problems.of_memory(memory),
        problems.of_disk(measured),
        problems.of_machine(watched.hygiene),
        problems.of_accelerators(devices),
        problems.of_telemetry(telemetry),
        problems.of_packages(packages),
    )
    return Diagnosis(
        environment=environment(),
        processor=processor,
        memory=memory,
        disk=measured,
        accelerators=devices,
        engines=engines,
        packages=packages,
        telemetry=telemetry,
        hygiene=watched.hygiene,
        problems=problems.gravest_first(found),
    )


def _try_engines() -> tuple[EngineCheck, ...]:
    """Compilers run in processes of their own, so as many at once as there are cores."""
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(min(usable_cores(), 8)) as pool:
        model, quantized = Path(directory) / "probe.onnx", Path(directory) / "probe-int8.onnx"
        _write_probe(model)
        _write_quantized(model, quantized)
        _write_program(Path(directory))
        tries = [
            pool.submit(_check, name, precision, quantized if precision is Precision.INT8 else model)
            for name in names()
            for precision in load(name).precisions
        ]
        return tuple(found.result() for found in tries)


def _of_runtimes() -> Iterator[Accelerator]:
    """Devices that the installed runtimes see besides the processor."""
    for name in names():
        engine = load(name)
        try:
            found = engine.devices()
        except ModelportError:
            continue  # told with the engines
        for device, detail in found.items():
            yield Accelerator(name=device, told_by=engine.title, detail=detail)


def _packages() -> Iterator[OptionalPackage]:
    for name, serves, extra in _OPTIONAL:
        try:
            found = version(name)
        except PackageNotFoundError:
            found = None
        yield OptionalPackage(name=name, version=found, serves=serves, extra=extra)


def _telemetry(reporting: dict[str, str]) -> Iterator[Telemetry]:
    for product, (module, switch_off) in _TELEMETRY.items():
        installed = find_spec(module) is not None
        yield Telemetry.model_validate(
            {"product": product, "installed": installed, "elsewhere": reporting[product], "switch_off": switch_off}
        )


def _check(name: str, precision: Precision, model: Path) -> EngineCheck:
    version = executed = problem = None
    try:
        version = load(name).version()
        output = model.parent / f"{name}-{precision}"
        program = str(model.parent / _PROGRAM) if load(name).from_program else None
        options = CompileOptions(precision=precision, program=program)
        compiled = compile_model(model, output, engine=name, options=options, preprocess=_PREPROCESS, timeout=_MOST_S)
        with open_model(compiled) as session:
            session.infer(np.zeros(session.input.shape, np.float32))
        executed = compiled.manifest.precision.executed
    except EngineUnavailableError as error:
        problem = str(error)
    except ModelportError as error:
        problem = str(error).replace(f"{model}: ", "")
    return EngineCheck(engine=name, version=version, precision=precision, executed=executed, problem=problem)


def _write_program(folder: Path) -> None:
    """The probe in PyTorch, for engines that compile that; without PyTorch they say so themselves."""
    if find_spec("torch") is None:
        return
    from ..exporter.probes import save_probe

    save_probe(folder / _PROGRAM, (1, *_PREPROCESS.input_size))


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
