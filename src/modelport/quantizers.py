"""The child process of `quantize`: NNCF or ONNX Runtime's quantiser on decoded images. Only here is nncf imported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from . import child
from .data.decode import Decoder
from .data.source import Sample
from .errors import CompileError, DataError, EngineUnavailableError, ModelportError
from .graph import ClassifierGraph, read_classifier
from .host import fingerprint
from .spec import ModelSpec
from .telemetry import refuse_reporter

_ERRORS_ONLY = 3
Feed = dict[str, np.ndarray]
Batch = tuple[Sample, ...]


class _Images:
    """Batches of images as the network's input. The first bad image is remembered: the quantisers swallow errors."""

    def __init__(self, graph: ClassifierGraph, spec: ModelSpec) -> None:
        self._name, self._shape = graph.input_name, spec.preprocess.input_size
        self._decoder = Decoder(spec.preprocess)
        self.error: DataError | None = None

    def __call__(self, batch: Batch) -> Feed:
        images = np.empty((len(batch), *self._shape), np.float32)
        for sample, out in zip(batch, images, strict=True):
            try:
                self._decoder(sample, sample.read(), out)
            except DataError as error:
                self.error = self.error or DataError(f"{sample.origin}: {error}; take it out of the calibration images")
                raise self.error from error
        return {self._name: images}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What to quantise and with what."""

    graph: ClassifierGraph
    preset: str
    max_drop: float | None
    keep_float: tuple[str, ...]
    calibration: list[Batch]
    control: list[Batch]
    images: _Images

    def top1(self, model: onnx.ModelProto) -> float:
        """Share of the control images whose first prediction is right, in points."""
        return float(np.mean(self.score(model, self.control))) * 100

    def score(self, model: onnx.ModelProto, batches: Iterable[Batch]) -> list[float]:
        """For each batch the share that is predicted right, in ONNX Runtime."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        scores = ((batch, session.run(None, self.images(batch))[0]) for batch in batches)
        return [float((rows.argmax(axis=1) == [sample.label for sample in batch]).mean()) for batch, rows in scores]


def _nncf(work: _Work) -> onnx.ModelProto:
    """NNCF's post-training quantisation; with a largest drop, layers go back to floating point until it holds."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    how: dict[str, Any] = {
        "preset": nncf.QuantizationPreset(work.preset),
        "subset_size": len(work.calibration),
    }
    model, calibration = onnx.load(work.graph.path), nncf.Dataset(work.calibration, work.images)
    if work.keep_float:
        how["ignored_scope"] = nncf.IgnoredScope(names=_kept(model, work.keep_float))
    if work.max_drop is None:
        return nncf.quantize(model, calibration, **how)

    def validate(candidate: onnx.ModelProto, batches: Iterable[Batch]) -> tuple[float, list[float]]:
        right = work.score(candidate, batches)  # NNCF hands the items over as they are, without the Dataset's function
        return float(np.mean(right)), right

    control = nncf.Dataset(work.control, work.images)
    return nncf.quantize_with_accuracy_control(
        model, calibration, control, validate, max_drop=work.max_drop / 100, drop_type=nncf.DropType.ABSOLUTE, **how
    )


def _onnxruntime(work: _Work) -> onnx.ModelProto:
    """ONNX Runtime's static quantisation: unsigned activations, signed weights, one scale per channel."""
    import tempfile

    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds: Iterator[Feed] = map(work.images, work.calibration)

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model.onnx"
        model = onnx.load(work.graph.path)
        kept = _kept(model, work.keep_float)
        quantize_static(
            model,
            str(output),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=work.graph.opset >= 13,
            reduce_range=_saturates(),
            nodes_to_exclude=kept,
            extra_options={"ActivationSymmetric": work.preset == "performance"},
        )
        return onnx.load(output)


def _kept(model: onnx.ModelProto, names: tuple[str, ...]) -> list[str]:
    """Names of the operators to leave alone; one that has none is given its result's."""
    kept = []
    for node in model.graph.node:
        if node.name in names or any(name in names for name in node.output):
            node.name = node.name or node.output[0]
            kept.append(node.name)
    return kept


_TOOLS: dict[str, Callable[[_Work], onnx.ModelProto]] = {"nncf": _nncf, "onnxruntime": _onnxruntime}


def _saturates() -> bool:
    """Whether products of unsigned and signed bytes are summed in 16 bits here, so that weights need a bit to spare."""
    host = fingerprint()
    return host.machine in ("x86_64", "AMD64") and not any("vnni" in feature for feature in host.features)


def _batches(rows: list[tuple[str, str, int | None]], size: int) -> list[Batch]:
    samples = [Sample(key, Path(path), label) for key, path, label in rows]
    return [tuple(samples[start : start + size]) for start in range(0, len(samples), size)]


def _quantize(request: dict[str, Any]) -> dict[str, Any]:
    """Quantise as the parent asks; the drop is in points, None without control images."""
    graph = read_classifier(Path(request["onnx"]))
    images = _Images(graph, ModelSpec.parse(request["spec"], "request"))
    size = graph.batch_size or 1
    work = _Work(
        graph=graph,
        preset=request["preset"],
        max_drop=request["max_drop"],
        keep_float=tuple(request["keep_float"]),
        calibration=_batches(request["calibration"], size),
        control=_batches(request["control"], size),
        images=images,
    )
    drop = None
    try:
        model = _TOOLS[request["tool"]](work)
        if images.error:
            raise images.error
        if work.control:
            drop = work.top1(onnx.load(graph.path)) - work.top1(model)
    except ModelportError:
        raise
    except ImportError as error:
        raise EngineUnavailableError(
            f"int8: {request['tool']} cannot be loaded ({error}): pip install 'modelport[int8]'"
        ) from error
    except Exception as error:  # the quantisers raise whatever their code meets
        if images.error:
            raise images.error from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CompileError(f"{graph.path}: {request['tool']} cannot quantise it: {reason[:300]}") from error
    onnx.save(model, request["output"])
    return {"drop": drop}


if __name__ == "__main__":
    refuse_reporter()
    child.answer(_quantize)
