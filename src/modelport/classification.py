"""`classify`: a few images, looked at one by one: the likeliest classes by name. Nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from . import limits
from .data.decode import Decoder, require_pixels_for
from .data.predictions import Prediction, top_classes
from .data.source import Sample, Source, open_source
from .engines import load
from .engines.base import CompileOptions
from .engines.compiler import compile_model
from .engines.session import SessionOptions
from .errors import DataError, EngineUnavailableError, FormatError
from .graph import read_classifier
from .host import usable_cores
from .offline import OfflineModel
from .pipeline import Pipeline, PipelineOptions
from .printable import printable
from .progress import Progress, silent
from .results import Classification, ClassifiedImage, Guess
from .spec import ModelSpec, Precision
from .work import describe

STDIN = "-"
_ENGINES = ("openvino", "onnxruntime")  # that an ONNX file is compiled with for the moment, the first that is installed


def classify(
    model: OfflineModel | Path | str,
    images: Iterable[Path | str],
    *,
    top: int = 5,
    class_names: tuple[str, ...] | None = None,
    progress: Progress = silent,
) -> Classification:
    """Say what a model takes images for.

    Args:
        model: an offline model or its directory; or an ONNX file that says how its images are prepared, which is compiled for
            the moment, in f32.
        images: files, folders, lists, shards or URLs as `infer` takes them; `-` is one image on standard input.
        top: how many classes to tell of each, at most as many as there are.
        class_names: a name for each class; None takes the model's own, if it has any.
        progress: called as images are done.

    Raises:
        FormatError: it is no model, or there are more or fewer names than classes.
        EngineUnavailableError: the engine is not installed or does not fit.
        InferenceError: the engine failed.
        DataError: a list or shard is damaged. An image that is absent or cannot be read is told in the result.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    with _opened(model) as opened:
        spec = opened.manifest.model
        named = spec.named(class_names)
        asked = [found for place in images for found in _planned(place, spec)]
        options = SessionOptions().with_streams(1)
        answers = _answers(opened, options, [sample for sample in asked if isinstance(sample, Sample)], progress)
        looked_at = (item if isinstance(item, ClassifiedImage) else _told(next(answers), named, top) for item in asked)
        return Classification(
            **describe(opened, options).model_dump(),
            model=named,
            names_from="file" if class_names else "model" if spec.class_names else None,
            images=tuple(looked_at),
        )


@contextmanager
def _opened(model: OfflineModel | Path | str) -> Iterator[OfflineModel]:
    """The offline model; an ONNX file as one that lasts for the moment."""
    if isinstance(model, OfflineModel):
        yield model
    elif not Path(model).is_file():
        yield OfflineModel.load(Path(model))
    else:
        graph = read_classifier(Path(model))
        if graph.spec is None:
            raise FormatError(
                f"{model}: carries no preprocessing; compile it with `modelport compile`, which is told how its images are "
                "prepared, and classify with the offline model"
            )
        with TemporaryDirectory(prefix="modelport-classify-") as folder:
            options = CompileOptions(precision=Precision.F32, batch_size=graph.batch_size or 1)
            yield compile_model(graph.path, Path(folder) / "model", engine=_installed_engine(), options=options)


def _installed_engine() -> str:
    for name in _ENGINES:
        try:
            load(name).version()
        except EngineUnavailableError:
            continue
        return name
    raise EngineUnavailableError(
        f"an ONNX file is compiled for the moment, and neither {' nor '.join(load(name).title for name in _ENGINES)} is "
        "installed: pip install 'modelport[openvino]', or give an offline model of another engine"
    )


def _planned(place: Path | str, spec: ModelSpec) -> list[Sample | ClassifiedImage]:
    """The images at a place, named as they were asked for; a place with none is one that could not be classified."""
    if str(place) == STDIN:
        return [Sample("stdin", _StandardInput())]
    name = printable(str(place))
    try:
        source = open_source(place)
        require_pixels_for(source.samples[0], spec.preprocess)
    except DataError as error:
        return [ClassifiedImage(key=name, guesses=(), error=str(error).removeprefix(f"{place}: "))]
    alone = len(source) == 1 and str(source.samples[0].origin) == str(place)
    return [replace(sample, key=name if alone else f"{name.rstrip('/')}/{sample.key}") for sample in source]


def _answers(
    model: OfflineModel, options: SessionOptions, samples: list[Sample], progress: Progress
) -> Iterator[Prediction]:
    if not samples:
        return
    with load(model.manifest.engine.name).open(model, options) as session:
        settings = PipelineOptions(decoders=min(usable_cores(), len(samples)), keep_scores=True)
        pipeline = Pipeline(session, Decoder(model.manifest.model.preprocess), settings)
        for done, prediction in enumerate(pipeline.run(Source("classify", tuple(samples))), start=1):
            progress("classify", done, len(samples))
            yield prediction


def _told(prediction: Prediction, spec: ModelSpec, top: int) -> ClassifiedImage:
    if prediction.error is not None:
        return ClassifiedImage(key=prediction.sample.key, guesses=(), error=prediction.error)
    assert prediction.scores is not None
    scores = prediction.scores
    shares = probabilities(scores)
    guesses = tuple(
        Guess(
            label=int(label),
            name=spec.name_of(int(label)) if spec.class_names else None,
            score=float(scores[label]),
            probability=float(shares[label]),
        )
        for label in top_classes(scores[None], top)[0]
    )
    return ClassifiedImage(key=prediction.sample.key, guesses=guesses)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Softmax of one image's scores; the scores themselves where they are probabilities already: not negative, and 1 in all."""
    wide = scores.astype(np.float64)
    if wide.min() >= 0 and abs(wide.sum() - 1) < 1e-3:
        return wide
    powers = np.exp(wide - wide.max())
    return powers / powers.sum()


class _When(NamedTuple):
    st_size: int | None
    st_mtime_ns: int


@dataclass(frozen=True, slots=True)
class _StandardInput:
    """The bytes of one image on standard input, as an `Origin`."""

    def __str__(self) -> str:
        return "stdin"

    def read_bytes(self) -> bytes:
        data = sys.stdin.buffer.read(limits.IMAGE_BYTES + 1)
        if len(data) > limits.IMAGE_BYTES:
            raise OSError(f"has more than {limits.IMAGE_BYTES:,} bytes, the most that is read of an image")
        return data

    def stat(self) -> _When:
        return _When(None, 0)
