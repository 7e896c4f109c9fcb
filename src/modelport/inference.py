"""A real-data run: images through the pipeline into a predictions file and its statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from . import files
from .accuracy import INFER_FILE, PREDICTIONS_FILE
from .calibration import refuse_overlap
from .data.fast import Preprocessing, make_decoder
from .data.labels import read_labels, require_in_range
from .data.predictions import Prediction, writing
from .data.source import Source, open_source
from .engines import load
from .engines.base import Engine, Session, SessionOptions
from .errors import DataError
from .exclusive import warn_if_busy, watch
from .fast_check import FastSample
from .host import environment, usable_cores
from .offline import OfflineModel
from .pipeline import Pipeline, PipelineOptions
from .progress import Progress, silent
from .results import EndToEnd, InferResult, Target
from .spec import ModelSpec

_MOST_STREAMS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class InferOptions:
    """What to infer and how.

    Attributes:
        limit: only the first N images.
        session: streams and threads; `share_cores` where it says nothing of streams.
        pipeline: workers, and what a bad image does.
        preprocessing: exact, or fast: near it, and how near is measured on a sample after the run.
    """

    limit: int | None = None
    session: SessionOptions = field(default_factory=SessionOptions)
    pipeline: PipelineOptions = field(default_factory=PipelineOptions)
    preprocessing: Preprocessing = "exact"


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Planned work: what runs, the network's needs, the images, how, and which of them the model was calibrated with."""

    target: Target
    spec: ModelSpec
    source: Source
    options: InferOptions
    calibrated_with: tuple[str, ...] = ()


def infer(  # noqa: PLR0913
    model: OfflineModel | Path | str,
    images: Source | Path | str,
    output: Path | str,
    *,
    labels: Path | str | None = None,
    options: InferOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> InferResult:
    """Classify images with an offline model.

    Args:
        model: an offline model or its directory.
        images: a planned source, or a folder, class subfolders, an `.info` list, an image.
        output: directory to make: `predictions.parquet` (one row per image, in input order) and `infer.json`.
        labels: label file; its classes are kept in the predictions.
        options: limit, streams, workers, policy for bad images.
        force: replace `output` if it exists.
        progress: called as images are done.

    Raises:
        DataError: no images, a bad one where the policy is to fail, or labelled ones that the model was calibrated with.
        InferenceError: the engine failed.
        OutputError: `output` exists.
    """
    options = options or InferOptions()
    if not isinstance(model, OfflineModel):
        model = OfflineModel.load(Path(model))
    files.refuse_existing(Path(output), force=force)
    source = prepare_source(images, labels, model.manifest.model, options.limit)
    seen = _calibrated_with(model, source)
    engine = load(model.manifest.engine.name)
    opened = share_cores(engine, options.session)
    with engine.open(model, opened) as session:
        target, spec = describe(model, opened), model.manifest.model
        work = Work(target=target, spec=spec, source=source, options=options, calibrated_with=seen)
        result = classify(session, work, output, force=force, progress=progress)
    warn_if_busy(f"{model.label}, {result.images:,} images", result.hygiene)
    return result


def share_cores(engine: Engine, options: SessionOptions) -> SessionOptions:
    """How infer opens a session unless it is told: one stream of one thread on each core, where the engine computes on them.

    Decoding needs the same cores. A stream that spreads one batch over all of them waits for its slowest thread whenever a
    decoder has one; streams of one thread wait for nobody, so no core is idle while there is work. Where there are many
    cores, at most eight streams share them, since each stream has batches of its own in memory.
    """
    cores = options.threads or usable_cores()
    return options if engine.accelerator else options.with_streams(min(cores, _MOST_STREAMS), cores)


def prepare_source(
    images: Source | Path | str, labels: Path | str | None, spec: ModelSpec, limit: int | None
) -> Source:
    """Plan the images, attach labels, check both against the model, and cut to the limit."""
    source = images if isinstance(images, Source) else open_source(images)
    if labels is not None:
        wanted = read_labels(labels)
        require_in_range(wanted, spec.num_classes, labels)
        source = source.labelled(wanted)
        if all(sample.label is None for sample in source):
            raise DataError(
                f"{labels}: labels none of the images in {source.where} (first image: {source.samples[0].key})"
            )
    return source.limited(limit)


def _calibrated_with(model: OfflineModel, source: Source) -> tuple[str, ...]:
    """Names of the images that the model was calibrated with. With labels they would be evaluated: refused."""
    seen = set(model.calibrated_with({sample.key: sample.path for sample in source}))
    refuse_overlap([sample.key for sample in source if sample.key in seen and sample.label is not None], source.where)
    return tuple(sample.key for sample in source if sample.key in seen)


def describe(model: OfflineModel, options: SessionOptions) -> Target:
    """The figures' heading: what runs, and in which precision."""
    m = model.manifest
    return Target(
        engine=m.engine.name,
        engine_version=m.engine.version,
        precision=m.precision.requested,
        executed_precision=m.precision.executed,
        batch_size=m.batch_size,
        input_dtype=m.input.dtype,
        streams=options.streams or 1,
        threads=options.threads,
        devices=options.devices,
    )


def classify(
    session: Session, work: Work, output: Path | str, *, force: bool = False, progress: Progress = silent
) -> InferResult:
    """Run planned work through an open session and write what came out; `infer` is the way in for users."""
    with files.new_directory(Path(output), marker=INFER_FILE, force=force) as directory:
        path, classes = directory / PREDICTIONS_FILE, work.spec.num_classes
        with writing(path, classes, all_scores=work.options.pipeline.keep_scores) as writer:
            result = run_work(session, work, writer.write, progress)
        result.write(directory / INFER_FILE)
    return result


def run_work(
    session: Session, work: Work, write: Callable[[Prediction], None], progress: Progress = silent
) -> InferResult:
    """Run planned work through an open session; `write` gets each prediction, in input order."""
    preprocess, how = work.spec.preprocess, work.options.preprocessing
    pipeline = Pipeline(session, make_decoder(preprocess, how), work.options.pipeline)
    sample = FastSample(work.source) if how == "fast" else None
    with watch() as watched:
        start = perf_counter()
        for done, prediction in enumerate(pipeline.run(work.source), start=1):
            write(prediction)
            if sample is not None:
                sample.take(done - 1, prediction)
            progress(f"infer {work.target.name}", done, len(work.source))
        wall = perf_counter() - start
    return InferResult(
        **work.target.model_dump(),
        model=work.spec,
        images=len(work.source),
        failures=len(pipeline.bad_images),
        limit=work.options.limit,
        source=work.source.where,
        e2e=EndToEnd(throughput=len(work.source) / wall, wall_s=wall),
        interface=pipeline.interface,
        stages=pipeline.stages,
        bad_images=tuple(pipeline.bad_images),
        environment=environment(),
        hygiene=watched.hygiene,
        preprocessing=how,
        fast_check=sample.compare(session, preprocess) if sample is not None else None,
        calibrated_with=work.calibrated_with,
    )
