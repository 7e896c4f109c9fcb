"""`infer`: images and an offline model to predictions, with the machine's cores shared by decoding and inference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import files
from .calibration import refuse_overlap
from .data.decode import require_pixels_for
from .data.gpu_jpeg import require_nvjpeg
from .data.labels import read_labels, require_in_range
from .data.source import Source, open_source
from .engines import load
from .engines.base import Engine
from .engines.session import SessionOptions
from .errors import DataError
from .exclusive import warn_if_busy
from .executor import Executor, InThisProcess
from .host import usable_cores
from .offline import MANIFEST, OfflineModel
from .progress import Progress, silent
from .results import InferResult
from .resumable import Existing, classify_by, refuse_foreign
from .spec import ModelSpec
from .work import InferOptions, Work, describe

if TYPE_CHECKING:
    from .cluster.connection import ClusterOptions

_MOST_STREAMS = 8


def infer(  # noqa: PLR0913
    model: OfflineModel | Path | str,
    images: Source | Path | str,
    output: Path | str,
    *,
    labels: Path | str | None = None,
    options: InferOptions | None = None,
    cluster: ClusterOptions | None = None,
    existing: Existing = "refuse",
    progress: Progress = silent,
) -> InferResult:
    """Classify images with an offline model.

    Killed and called again, it goes on where it was; see `resumable.classify`.

    Args:
        model: an offline model or its directory.
        images: a planned source, or a folder, class subfolders, an `.info` list, an image.
        output: directory to make, or of an earlier run: `predictions.parquet` (one row per image, in input order) and
            `infer.json`.
        labels: label file; its classes are kept in the predictions.
        options: limit, streams, workers, policy for bad images.
        cluster: spread it over a Ray cluster; None does it in this process.
        existing: what to do where `output` holds another, finished run: refuse, replace it, or update it.
        progress: called as images are done.

    Raises:
        DataError: no images, a bad one where the policy is to fail, or labelled ones that the model was calibrated with.
        InferenceError: the engine failed, or the cluster did.
        EngineUnavailableError: the engine or the cluster is not there, or not fit.
        OutputError: `output` holds something else, or another run is writing there.
        StoppedError: a signal came; what was done is kept.
    """
    options = options or InferOptions()
    if options.decoding == "nvjpeg":
        if cluster is not None:
            raise ValueError("nvjpeg decodes in this process: the actors of a cluster decode on their processors")
        require_nvjpeg()  # before anything is opened or made
    if not isinstance(model, OfflineModel):
        model = OfflineModel.load(Path(model))
    refuse_foreign(Path(output), existing)
    if cluster is not None and not isinstance(images, Source) and "://" not in str(images):
        images = Path(images).absolute()  # as the actors will look for it
    source = prepare_source(images, labels, model.manifest.model, options.limit)
    seen = seen_in_calibration(model, source)
    with _executor(model, options, cluster) as (executor, opened):
        target, spec = describe(model, opened), model.manifest.model
        digest = files.digest(model.path / MANIFEST)
        work = Work(target=target, spec=spec, source=source, options=options, calibrated_with=seen, identity=digest)
        result = classify_by(executor, work, output, existing=existing, progress=progress)
    warn_if_busy(f"{model.label}, {result.images:,} images", result.hygiene)
    return result


@contextmanager
def _executor(
    model: OfflineModel, options: InferOptions, cluster: ClusterOptions | None
) -> Iterator[tuple[Executor, SessionOptions]]:
    """Who does the work, and how the model is opened for it."""
    engine = load(model.manifest.engine.name)
    if cluster is None:
        opened = share_cores(engine, options.session, model)
        with engine.open(model, opened) as session:
            yield InThisProcess(session), opened
        return
    from .cluster.connection import connected
    from .cluster.on_ray import OnRay

    with connected(cluster) as joined:
        opened = replace(options.session, threads=options.session.threads or joined.cores)
        if engine.on_accelerator(model):
            opened = replace(opened, devices=tuple(range(max(1, cluster.gpus))))
        opened = share_cores(engine, opened, model)
        yield OnRay(joined, model, opened), opened


def share_cores(engine: Engine, options: SessionOptions, model: OfflineModel | None = None) -> SessionOptions:
    """How infer opens a session unless it is told: one stream of one thread on each core, where the engine computes on them.

    Decoding needs the same cores. A stream that spreads one batch over all of them waits for its slowest thread whenever a
    decoder has one; streams of one thread wait for nobody, so no core is idle while there is work. Where there are many
    cores, at most eight streams on each device share them, since each stream has batches of its own in memory. A device of its
    own gets as many batches at once as its engine wants.
    """
    cores = options.threads or usable_cores()
    each = max(1, min(cores // len(options.devices), _MOST_STREAMS))
    if not (engine.accelerator if model is None else engine.on_accelerator(model)):
        return options.with_streams(each, cores)
    return options.with_streams(engine.batches_in_flight) if engine.batches_in_flight > 1 else options


def prepare_source(
    images: Source | Path | str, labels: Path | str | None, spec: ModelSpec, limit: int | None
) -> Source:
    """Plan the images, attach labels, check both against the model, and cut to the limit."""
    source = images if isinstance(images, Source) else open_source(images)
    require_pixels_for(source.samples[0], spec.preprocess)  # here, not once for each image
    if own := {sample.key: sample.label for sample in source if sample.label is not None}:
        require_in_range(own, spec.num_classes, source.where)
    if labels is not None:
        wanted = read_labels(labels)
        require_in_range(wanted, spec.num_classes, labels)
        source = source.labelled(wanted)
        if all(sample.label is None for sample in source):
            raise DataError(
                f"{labels}: labels none of the images in {source.where} (first image: {source.samples[0].key})"
            )
    return source.limited(limit)


def seen_in_calibration(model: OfflineModel, source: Source) -> tuple[str, ...]:
    """Names of the images that the model was calibrated with. With labels they would be evaluated: refused."""
    seen = set(model.calibrated_with({sample.key: sample.origin for sample in source}))
    refuse_overlap([sample.key for sample in source if sample.key in seen and sample.label is not None], source.where)
    return tuple(sample.key for sample in source if sample.key in seen)
