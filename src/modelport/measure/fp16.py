"""What an fp16 device will make of a model's accuracy, forecast by emulation on the CPU."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import computed_field

from .. import files
from ..accuracy import PREDICTIONS_FILE, compare_decisions, compare_scores, count_topn
from ..data.labels import label_key, read_labels
from ..data.predictions import Predictions
from ..data.source import Source
from ..engines import load
from ..engines.base import CompileOptions
from ..engines.compiler import compile_model
from ..engines.session import SessionOptions
from ..errors import InferenceError
from ..graph import ClassifierGraph, read_classifier
from ..graph.fp16 import LARGEST, emulate_fp16
from ..host import environment, usable_cores
from ..inference import prepare_source
from ..pipeline import PipelineOptions
from ..progress import Progress, silent
from ..results import Accuracy, Environment, Paired, Parity, Result
from ..resumable import classify
from ..spec import ModelSpec, Precision, Preprocess
from ..work import InferOptions, Work, describe

FORECAST_FILE = "forecast.json"
F32_DIRECTORY, FP16_DIRECTORY = "f32", "fp16-emulation"
NATURE = "a forecast by emulation on the CPU, not a device's figure"
_ENGINE = "onnxruntime"
_BATCH = 8
log = logging.getLogger("modelport")


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastOptions:
    """What to forecast with.

    Attributes:
        preprocess: how images are prepared; None takes what the ONNX file says.
        num_classes: for a file that does not say.
        limit: only the first N images.
        batch_size: None takes the file's own where it is fixed, else 8. It changes no decision, only the time.
    """

    preprocess: Preprocess | None = None
    num_classes: int | None = None
    limit: int | None = None
    batch_size: int | None = None


class Fp16Forecast(Result):
    """`forecast.json`: f32 and emulated fp16 on the same images. It holds no speeds: the emulation's mean nothing.

    Attributes:
        nature: what these figures are.
        onnx_sha256: digest of the file that was emulated.
        engine_version: of ONNX Runtime, which ran both.
        overflows: weights that fp16 cannot hold, with their largest magnitude.
        accuracy_f32, accuracy_fp16: None without labels. An image with scores that are not finite counts as wrong.
        paired: decisions in fp16 against those in f32.
        parity: scores in fp16 against those in f32, where both are finite; None where none are.
        non_finite: images whose scores are finite in f32 and not in fp16.
    """

    format: Literal["modelport.fp16-forecast"] = "modelport.fp16-forecast"
    format_version: Literal[1] = 1
    nature: str = NATURE
    model: ModelSpec
    onnx_sha256: str
    engine: str
    engine_version: str
    images: int
    limit: int | None
    source: str
    overflows: tuple[str, ...]
    accuracy_f32: Accuracy | None
    accuracy_fp16: Accuracy | None
    paired: Paired
    parity: Parity | None
    non_finite: int
    environment: Environment

    @computed_field
    @property
    def drop_points(self) -> float | None:
        """Top1 in f32 − Top1 in fp16, percentage points; None without labels."""
        if self.accuracy_f32 is None or self.accuracy_fp16 is None:
            return None
        return (self.accuracy_f32.topn[0] - self.accuracy_fp16.topn[0]) * 100


def forecast_fp16(  # noqa: PLR0913
    onnx: Path | str,
    images: Source | Path | str,
    *,
    labels: Path | str | None = None,
    output: Path | str | None = None,
    options: ForecastOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Fp16Forecast:
    """Forecast the accuracy of a classifier on a device that computes in fp16, such as an Ascend 310.

    The model is run twice on the same images by ONNX Runtime: as it is, and with its weights and every operator's result
    rounded to fp16. Where a device fuses operators it rounds less often; where it adds up in fp16 it is less exact.

    Args:
        onnx: the classifier.
        images: a planned source, or a folder, class subfolders, an `.info` list, an image.
        labels: label file; without one, class subfolders' numbers, or no accuracy.
        output: directory to make: `forecast.json`, and both runs' predictions in `f32` and `fp16-emulation`.
        options: preprocessing, limit, batch size.
        force: replace `output` if it exists.
        progress: called as images are done.

    Raises:
        FormatError: the file is no image classifier, or cannot be emulated.
        DataError: no images, or labels that do not fit.
        EngineUnavailableError: ONNX Runtime is not installed.
        InferenceError: ONNX Runtime optimised the rounding away.
        OutputError: `output` exists.
    """
    options = options or ForecastOptions()
    version = load(_ENGINE).version()
    graph = read_classifier(Path(onnx))
    spec = graph.resolve_spec(options.preprocess, options.num_classes)
    source = prepare_source(images, labels, spec, options.limit)
    wanted = {label_key(sample.key): sample.label for sample in source if sample.label is not None}
    if labels is not None:
        wanted |= read_labels(labels)
    plan = _Plan(spec, source, options.limit, options.batch_size or graph.batch_size or _BATCH)
    with _place(output, force) as directory, tempfile.TemporaryDirectory(prefix="modelport-") as work:
        emulation = emulate_fp16(graph, Path(work) / graph.path.name)
        for weight in emulation.overflows:
            log.warning("%s: weight %s is beyond what fp16 can hold (%g): infinite there", graph.path, weight, LARGEST)
        f32 = plan.predict(graph, directory / F32_DIRECTORY, Precision.F32, progress)
        rounded = read_classifier(emulation.path)
        fp16 = plan.predict(rounded, directory / FP16_DIRECTORY, Precision.FP16, progress)
        _require_rounded(fp16)
        result = Fp16Forecast(
            model=spec,
            onnx_sha256=graph.sha256,
            engine=_ENGINE,
            engine_version=version,
            images=len(source),
            limit=options.limit,
            source=source.where,
            overflows=tuple(map(str, emulation.overflows)),
            accuracy_f32=plan.count(f32, wanted),
            accuracy_fp16=plan.count(fp16, wanted),
            paired=compare_decisions(f32, fp16, wanted, against="f32"),
            parity=compare_scores(f32, fp16, against="f32"),
            non_finite=sum(a is None and b is not None for a, b in zip(f32.errors, fp16.errors, strict=True)),
            environment=environment(),
        )
        result.write(directory / FORECAST_FILE)
    return result


@dataclass(frozen=True, slots=True)
class _Plan:
    """What both runs have in common."""

    spec: ModelSpec
    source: Source
    limit: int | None
    batch_size: int

    def predict(self, graph: ClassifierGraph, output: Path, precision: Precision, progress: Progress) -> Predictions:
        """Compile the graph for a moment, and classify the images with it."""
        options = InferOptions(limit=self.limit, pipeline=PipelineOptions(decoders=usable_cores(), keep_scores=True))
        with tempfile.TemporaryDirectory(prefix="modelport-") as place:
            model = compile_model(
                graph.path,
                Path(place) / "model",
                engine=_ENGINE,
                options=CompileOptions(batch_size=self.batch_size),
                preprocess=self.spec.preprocess,
                num_classes=self.spec.num_classes,
            )
            target = describe(model, SessionOptions())
            if precision is Precision.FP16:  # nobody shall take it for a device
                target = target.model_copy(update={"engine": FP16_DIRECTORY, "precision": precision})
            work = Work(target=target, spec=self.spec, source=self.source, options=options)
            with load(_ENGINE).open(model, SessionOptions()) as session:
                classify(session, work, output, progress=progress)
        return Predictions.read(output / PREDICTIONS_FILE)

    def count(self, predictions: Predictions, wanted: dict[str, int]) -> Accuracy | None:
        """TopN, where there are labels."""
        if not wanted:
            return None
        return count_topn(predictions, wanted, classes=self.spec.num_classes, limited=self.limit is not None)


@contextmanager
def _place(output: Path | str | None, force: bool) -> Iterator[Path]:
    """A directory for the results: `output`, whole or not at all, or one that is forgotten."""
    if output is not None:
        with files.new_directory(Path(output), marker=FORECAST_FILE, force=force) as directory:
            yield directory
    else:
        with tempfile.TemporaryDirectory(prefix="modelport-") as place:
            yield Path(place)


def _require_rounded(predictions: Predictions) -> None:
    """The last operator's result is rounded like all others, so scores that are no fp16 numbers betray a runtime that cheats."""
    assert predictions.scores is not None
    scores = predictions.scores[~np.isnan(predictions.scores)]
    with np.errstate(over="ignore"):
        exact = scores == scores.astype(np.float16).astype(np.float32)
    if not exact.all():
        raise InferenceError(
            f"ONNX Runtime optimised the rounding to fp16 away (score {scores[~exact][0]!r} is no fp16 number), so there is no "
            "forecast; use another version of ONNX Runtime"
        )
