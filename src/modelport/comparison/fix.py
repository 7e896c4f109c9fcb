"""`diff` with a fix: the INT8 operators with the largest errors of their own stay in floating point, as few as hold a floor."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .. import engines
from ..accuracy import PREDICTIONS_FILE, compare_decisions, count_topn
from ..data.labels import label_key, read_labels
from ..data.predictions import Predictions
from ..data.source import Source
from ..engines.base import CompileOptions
from ..engines.compiler import compile_model
from ..errors import CompileError, FormatError
from ..graph.quantized import is_quantized, read_calibration
from ..inference import infer, prepare_source
from ..offline import OfflineModel
from ..quantize import QuantizeOptions, Tool, quantize
from ..results import Accuracy
from ..results.diff import DiffResult, FixResult, FixStep
from ..spec import Precision
from ..work import InferOptions
from .explain import quantized_operators
from .probe import Pair
from .stages import PLAIN_ENGINE, OnnxStage

FIXED_FILE = "model-int8.onnx"
_BATCH = 8
_SAMPLES = 300
log = logging.getLogger("modelport")


@dataclass(frozen=True, kw_only=True, slots=True)
class FixOptions:
    """How to fix an int8 model.

    Attributes:
        calibration: images to calibrate with; none of those that the floor is measured on.
        labels: label file of the floor's images; None takes class subfolders' numbers, or holds decisions against A's.
        max_drop: the floor: the largest drop of top-1 in points, or the largest percentage of changed decisions.
        samples: how many images calibrate; None takes as many as calibrated B, or 300.
    """

    calibration: Path
    labels: Path | None = None
    max_drop: float = 0.5
    samples: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 100:
            raise ValueError(f"max_drop must be 0 to 100, got {self.max_drop}")


def mend(result: DiffResult, pair: Pair, fix: FixOptions, images: Source | Path | str, directory: Path) -> FixResult:
    """Quantise again with more and more of the worst operators in floating point until the floor holds, and go back by
    bisection to the fewest.

    Args:
        result: of comparing every layer of the pair.
        pair: A is the float file, B what was made of it in int8.
        fix: the floor, and what to calibrate with.
        images: that the floor is measured on, all of them.
        directory: where the quantised file goes.

    Raises:
        FormatError: B is not int8, or A is not the float file that it was quantised from.
        CompileError: B cannot be run, or quantising fails.
        DataError: images of the floor were used to calibrate.
    """
    work = _Work(pair, fix, images, directory)
    try:
        layers = _worst_first(result, work.b)
        first = work.try_given()
        steps, kept = ([first], []) if first.passed else _grow(work, layers, [first])
        if kept:
            work.path(kept).rename(directory / FIXED_FILE)
    finally:
        work.close()
    return FixResult(
        max_drop_points=fix.max_drop,
        labelled=bool(work.labels),
        images=len(work.source),
        engine=work.engine,
        reference=work.accuracy,
        candidates=sum(len(layer.names) for layer in layers),
        steps=tuple(steps),
        kept=_names(kept),
        output=FIXED_FILE if kept else None,
    )


@dataclass(frozen=True, slots=True)
class _Layer:
    """Quantised operators that are kept together, and the types of their layer's operators."""

    names: tuple[str, ...]
    kinds: str


def _grow(work: _Work, layers: list[_Layer], steps: list[FixStep]) -> tuple[list[FixStep], list[_Layer]]:
    """Keep 1, 2, 4, … more layers until the floor holds, then only as many as it takes. Empty where it never does.

    An engine may have no code for some mixtures of int8 and floating point. Then the layers are added one by one again, and
    a kind of layer that it refuses is left in int8. At most half of the layers are kept: beyond that it is no int8 model.
    """
    kept: list[_Layer] = []
    left, more = list(layers), 1
    while left and (room := len(layers) // 2 - len(kept)) > 0:
        more = min(more, room)
        trial = [*kept, *left[:more]]
        steps.append(work.try_keeping(trial))
        if steps[-1].passed:
            return steps, _shrink(work, trial, len(kept), steps)
        if steps[-1].problem is None:
            kept, left, more = trial, left[more:], more * 2
        elif min(more, len(left)) > 1:
            more = 1
        else:
            log.info("fix: %s is left in int8: %s", left[0].kinds, steps[-1].problem)
            left = [layer for layer in left if layer.kinds != left[0].kinds]
    return steps, []


def _shrink(work: _Work, trial: list[_Layer], low: int, steps: list[FixStep]) -> list[_Layer]:
    """The fewest of the worst layers that hold the floor: more than `low`, by bisection, as if more were never worse."""
    high = len(trial)
    while high - low > 1:
        middle = (low + high) // 2
        steps.append(work.try_keeping(trial[:middle]))
        low, high = (low, middle) if steps[-1].passed else (middle, high)
    return trial[:high]


def _names(layers: list[_Layer]) -> tuple[str, ...]:
    return tuple(name for layer in layers for name in layer.names)


class _Work:
    """What every step needs: A's decisions, the floor's images, how B was quantised."""

    def __init__(self, pair: Pair, fix: FixOptions, images: Source | Path | str, directory: Path) -> None:
        self.a, self.b, self.fix = *_require_int8(pair), fix
        assert self.b.side.onnx is not None
        self.quantised = Path(self.b.side.onnx)
        self.record = read_calibration(self.quantised)
        self.engine = self._engine()
        self.spec = self.a.spec
        self.source = prepare_source(images, fix.labels, self.spec, None)
        self.labels = {label_key(sample.key): sample.label for sample in self.source if sample.label is not None}
        if fix.labels is not None:
            self.labels |= read_labels(fix.labels)
        self._place = tempfile.TemporaryDirectory(prefix=".fix-", dir=directory)
        self._made = 0
        self._tried: dict[Path, FixStep] = {}
        plain = self._compile(self.float, PLAIN_ENGINE, Precision.F32)
        self._reference = self._predict(plain)
        self.accuracy = self._count(self._reference)

    @property
    def float(self) -> Path:
        """The float file."""
        assert self.a.side.onnx is not None
        return Path(self.a.side.onnx)

    def close(self) -> None:
        """Remove what the steps left."""
        self._place.cleanup()

    def try_given(self) -> FixStep:
        """B as it was given."""
        return self._step(self.b.model or self._compile(self.quantised, self.engine, Precision.INT8), 0)

    def try_keeping(self, layers: list[_Layer]) -> FixStep:
        """Quantise with these layers in floating point, and hold it against the floor."""
        kept, path = _names(layers), self.path(layers)
        if path in self._tried:
            return self._tried[path]
        given = self.record.calibration if self.record else None
        options = QuantizeOptions(
            tool=engines.load(self.engine).quantizer,
            preset=given.preset if given else "mixed",
            samples=self.fix.samples or (given.images if given else _SAMPLES),
            keep_float=kept,
        )
        log.info("fix: quantising with %d operators in floating point", len(kept))
        quantize(
            self.float, self.fix.calibration, path, options=options, preprocess=self.spec.preprocess,
            num_classes=self.spec.num_classes, evaluation=self.source,
        )  # fmt: skip
        try:
            step = self._step(self._compile(path, self.engine, Precision.INT8), len(kept))
        except CompileError as error:  # too little is left in int8, or the engine has no code for the mixture
            problem = str(error).removeprefix(f"{path}: ").replace(str(path), "it")
            step = FixStep(kept=len(kept), loss_points=None, passed=False, problem=problem)
        self._tried[path] = step
        return step

    def path(self, layers: list[_Layer]) -> Path:
        """Where the file with these layers in floating point lies."""
        return Path(self._place.name) / f"quantized-{len(_names(layers))}-{hash(_names(layers)):x}.onnx"

    def _step(self, model: OfflineModel, kept: int) -> FixStep:
        predictions = self._predict(model)
        accuracy = self._count(predictions)
        paired = compare_decisions(self._reference, predictions, self.labels, against="A")
        if accuracy is not None and self.accuracy is not None:
            loss = (self.accuracy.topn[0] - accuracy.topn[0]) * 100
        else:
            loss = paired.changed / paired.images * 100
        passed = loss <= self.fix.max_drop + 5e-7  # the shares behind it are exact, their difference is not
        return FixStep(kept=kept, loss_points=loss, passed=passed, accuracy=accuracy, paired=paired)

    def _predict(self, model: OfflineModel) -> Predictions:
        output = self._new("predictions")
        infer(model, self.source, output, options=InferOptions())
        return Predictions.read(output / PREDICTIONS_FILE)

    def _count(self, predictions: Predictions) -> Accuracy | None:
        return count_topn(predictions, self.labels, classes=self.spec.num_classes) if self.labels else None

    def _compile(self, path: Path, engine: str, precision: Precision) -> OfflineModel:
        size = self.b.batch or self.a.batch or _BATCH
        return compile_model(
            path, self._new("model"), engine=engine, options=CompileOptions(precision=precision, batch_size=size),
            preprocess=self.spec.preprocess, num_classes=self.spec.num_classes,
        )  # fmt: skip

    def _engine(self) -> str:
        """The engine that B is for: its own, or for a file the one whose quantiser made it."""
        if self.b.side.kind != "onnx" and self.b.side.engine:
            return self.b.side.engine
        tool: Tool = "onnxruntime" if self.record and self.record.calibration.tool.startswith("onnxruntime") else "nncf"
        return {"nncf": "openvino", "onnxruntime": "onnxruntime"}[tool]

    def _new(self, name: str) -> Path:
        self._made += 1
        return Path(self._place.name) / f"{self._made}-{name}"


def _require_int8(pair: Pair) -> tuple[OnnxStage, OnnxStage]:
    a, b = pair.a, pair.b
    if b.side.precision != "int8" or not isinstance(b, OnnxStage):
        raise FormatError(
            f"{b.side.name}: runs in {b.side.precision}: only an int8 model can be fixed by keeping operators in float"
        )
    if not isinstance(a, OnnxStage) or not a.side.onnx or is_quantized(Path(a.side.onnx)):
        raise FormatError(
            f"{a.side.name}: to fix {b.side.name}, A must be the float ONNX file that it was quantised from"
        )
    record = read_calibration(Path(b.side.onnx or ""))
    if record is not None and record.calibration.onnx_sha256 != a.side.onnx_sha256:
        raise FormatError(
            f"{b.side.name}: was quantised from another file (sha256 {record.calibration.onnx_sha256[:12]}…) than "
            f"{a.side.onnx} (sha256 {(a.side.onnx_sha256 or '')[:12]}…); give that one as A"
        )
    return a, b


def _worst_first(result: DiffResult, b: OnnxStage) -> list[_Layer]:
    """Quantised operators of each layer, the layer with the largest error of its own first."""
    quantized = quantized_operators(b.network)
    layers = sorted(
        (layer for layer in result.layers if layer.own is not None),
        key=lambda layer: result.marks.severity(layer.own or layer.error),
        reverse=True,
    )
    seen: set[str] = set()
    found = []
    for layer in layers:
        names = tuple(name for name in layer.operators if name in quantized and name not in seen)
        seen |= set(names)
        if names:
            found.append(_Layer(names, layer.op_type))
    return found
