"""The machine's measured peaks: a chain of large matrix products in each precision of an engine, and a large copy.

The chain is an ONNX classifier like any other, compiled and run by the engine itself: so a peak is what the engine's own
kernels reach here when nothing but arithmetic is asked of them, at the clock that this arithmetic runs at.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..engines import load, open_model
from ..engines.base import CompileOptions
from ..engines.compiler import compile_model
from ..errors import CompileError
from ..host import usable_cores
from ..offline import OfflineModel
from ..results import MachinePeaks
from ..spec import Precision, Preprocess

_SIZE = (3, 64, 64)
_WIDTH = 1024  # of the square weights
_BATCH = 128  # images; a row of the matrix is 1,024 of an image's 12,288 values
_ROWS = _SIZE[0] * _SIZE[1] * _SIZE[2] // _WIDTH
_PRODUCTS = 8
_OPSET = 17
_VISITS = 2


def measure_peaks(
    engine: str, *, precisions: Sequence[Precision] | None = None, seconds: float = 1.0, threads: int | None = None
) -> MachinePeaks:
    """Measure what the machine's cores can do at most.

    Args:
        engine: name of an engine that runs here.
        precisions: all that the engine offers, if left out; one that this processor lacks is left out of the result.
        seconds: least time for each figure, in two visits some time apart, since a limit that somebody else's moment had halved
            would make shares of 150 %; the best round counts.
        threads: cores; all that this process may use, if left out.

    Raises:
        EngineUnavailableError: the engine cannot run here.
    """
    offered = load(engine).precisions if precisions is None else precisions
    cores, best = threads or usable_cores(), dict[Precision, float]()
    with tempfile.TemporaryDirectory(prefix="modelport-peaks-") as folder:
        models = {precision: model for precision in offered if (model := _compile(engine, precision, Path(folder)))}
        for _ in range(_VISITS):
            for precision, model in models.items():
                best[precision] = min(best.get(precision, math.inf), _round(model, seconds / _VISITS))
    work = 2 * _BATCH * _ROWS * _WIDTH * _WIDTH * _PRODUCTS
    operations = {precision: work / shortest for precision, shortest in best.items()}
    return MachinePeaks(engine=engine, operations=operations, bandwidth=_copy(cores, seconds))


def _compile(engine: str, precision: Precision, folder: Path) -> OfflineModel | None:
    """None where this processor computes in no such precision."""
    graph = folder / f"{precision}.onnx"
    onnx.save(products(quantized=precision is Precision.INT8), graph)
    options = CompileOptions(precision=precision, batch_size=_BATCH, program=_program(engine, folder))
    preprocess = Preprocess(input_size=_SIZE)
    try:
        return compile_model(graph, folder / precision, engine=engine, options=options, preprocess=preprocess)
    except CompileError:
        return None


def _program(engine: str, folder: Path) -> str | None:
    """The chain in PyTorch, for an engine that compiles that."""
    if not load(engine).from_program:
        return None
    from ..exporter.probes import save_products

    path = folder / "products.pt2"
    save_products(path, (_BATCH, *_SIZE), width=_WIDTH, count=_PRODUCTS)
    return str(path)


def _round(model: OfflineModel, seconds: float) -> float:
    with open_model(model) as session:
        batch = session.random_batch()
        return _best(lambda: session.infer(batch), seconds)


def _copy(cores: int, seconds: float) -> float:
    """Every core copies 64 MiB of its own: more than a share of any cache."""
    count = 64 * 2**20 // 8
    pairs = [(np.ones(count), np.zeros(count)) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        best = _best(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)), seconds)
    return 2 * 8 * count * cores / best


def _best(work: Callable[[], object], seconds: float) -> float:
    """The shortest of the rounds that fit; at least three after a first that does not count."""
    work()
    rounds: list[float] = []
    start = perf_counter()
    while len(rounds) < 3 or perf_counter() - start < seconds:
        begin = perf_counter()
        work()
        rounds.append(perf_counter() - begin)
    return min(rounds)


def products(*, quantized: bool) -> onnx.ModelProto:
    """A classifier that is nothing but matrix products in a row, 1,024 wide; quantised with QDQ pairs if asked."""
    rng = np.random.default_rng(0)
    values = {"rows": np.array([-1, _WIDTH], np.int64), "images": np.array([-1, _ROWS * _WIDTH], np.int64)}
    nodes = [helper.make_node("Reshape", ["image", "rows"], ["x0"])]
    for number in range(_PRODUCTS):
        nodes += _quantized_product(number, values) if quantized else _product(number)
        if quantized:
            values[f"w{number}"] = rng.integers(-127, 128, (_WIDTH, _WIDTH)).astype(np.int8)
        else:
            values[f"w{number}"] = rng.standard_normal((_WIDTH, _WIDTH), dtype=np.float32) / np.float32(_WIDTH**0.5)
    nodes.append(helper.make_node("Reshape", [f"x{_PRODUCTS}", "images"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *_SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", _ROWS * _WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)


def _product(number: int) -> list[onnx.NodeProto]:
    return [helper.make_node("MatMul", [f"x{number}", f"w{number}"], [f"x{number + 1}"], name=f"product{number}")]


def _quantized_product(number: int, values: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """Activations in u8 and weights in s8, as the vector instructions take them."""
    values |= {
        "scale": np.array(0.05, np.float32),
        "zero": np.array(128, np.uint8),
        "weight-scale": np.array(4e-4, np.float32),
        "weight-zero": np.array(0, np.int8),
    }
    quantization, weight = ["scale", "zero"], ["weight-scale", "weight-zero"]
    return [
        helper.make_node("QuantizeLinear", [f"x{number}", *quantization], [f"q{number}"]),
        helper.make_node("DequantizeLinear", [f"q{number}", *quantization], [f"d{number}"]),
        helper.make_node("DequantizeLinear", [f"w{number}", *weight], [f"v{number}"]),
        helper.make_node("MatMul", [f"d{number}", f"v{number}"], [f"x{number + 1}"], name=f"product{number}"),
    ]
