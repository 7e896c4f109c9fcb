"""Pure inference of CSPResNeXt50 at 224 px (random weights: they do not change speed) against the runtimes' own defaults."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from interleave import Figure, interleave

from modelport.engines import open_model
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.exporter import ExportOptions, export
from modelport.exporter.export import load_network
from modelport.spec import Precision, Preprocess

JOB = ExportOptions(arch="cspresnext50", preprocess=Preprocess(input_size=(3, 224, 224), crop_pct=0.875))
TARGETS = (("openvino", Precision.F32), ("openvino", Precision.BF16), ("onnxruntime", Precision.F32))


def measure(batches: tuple[int, ...], *, turns: int, seconds: float) -> dict[str, list[Figure]]:
    """A table per batch size; the first contestant is PyTorch eager in f32."""
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        onnx = export(JOB, Path(folder) / "model.onnx").path
        network, _, _ = load_network(JOB)
        for batch in batches:
            with ExitStack() as stack:
                contestants = _peers(network, onnx, batch)
                for engine, precision in TARGETS:
                    options = CompileOptions(precision=precision, batch_size=batch)
                    model = compile_model(
                        onnx, Path(folder) / f"{engine}-{precision}-{batch}", engine=engine, options=options
                    )
                    session = stack.enter_context(open_model(model))
                    contestants[f"modelport {engine} {precision}"] = _counted(
                        session.infer, session.random_batch(), batch
                    )
                tables[f"pure inference, batch {batch}"] = interleave(contestants, turns=turns, seconds=seconds)
    return tables


def _peers(network: object, onnx: Path, batch: int) -> dict[str, Callable[[], int]]:
    """PyTorch eager, and each runtime as it is set by default: OpenVINO picks bf16 by itself on a CPU that has it."""
    import onnxruntime
    import openvino
    import torch

    images = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=np.float32)
    tensor = torch.from_numpy(images)

    def eager() -> int:
        with torch.inference_mode():
            network(tensor)
        return batch

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    model = openvino.Core().read_model(onnx)
    model.reshape({"image": [batch, 3, 224, 224]})
    # benchmark_app's default: the THROUGHPUT hint, with as many requests in flight as the plugin asks for.
    compiled = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    queue = openvino.AsyncInferQueue(compiled)

    def asynchronous() -> int:
        for _ in range(len(queue)):
            queue.start_async({0: images}, share_inputs=True)
        queue.wait_all()
        return batch * len(queue)

    return {
        "PyTorch eager f32": eager,
        "ONNX Runtime default": _counted(lambda array: session.run(None, {"image": array}), images, batch),
        "OpenVINO as benchmark_app sets it": asynchronous,
    }


def _counted(work: Callable[[np.ndarray], object], images: np.ndarray, batch: int) -> Callable[[], int]:
    def once() -> int:
        work(images)
        return batch

    return once
