"""`loadgen`: an offline model under MLCommons' LoadGen, in a process of its own, and what came of it as one directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from time import perf_counter

import psutil

from .. import child, files
from ..counting import count_parts
from ..data.labels import read_labels
from ..data.predictions import as_table, schema, writing
from ..data.source import PIECE, Source
from ..engines import load
from ..engines.session import SessionOptions
from ..errors import DataError, EngineUnavailableError, InferenceError
from ..exclusive import warn_if_busy, watch
from ..host import environment
from ..inference import prepare_source, seen_in_calibration, share_cores
from ..offline import OfflineModel
from ..progress import Progress, silent
from ..results import Accuracy, Hygiene, LoadGenResult
from ..work import describe
from .answers import read_answers
from .library import identity
from .logs import ACCURACY, DETAIL, DetailLog
from .settings import LOADED, LoadGenOptions, deviations

RESULT, PREDICTIONS = "loadgen.json", "predictions.parquet"
_PROGRESS = ".progress"
_LOOK_S = 0.5
log = logging.getLogger("modelport")


def loadgen(  # noqa: PLR0913
    model: OfflineModel | Path | str,
    images: Path | str,
    output: Path | str,
    *,
    options: LoadGenOptions,
    labels: Path | str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> LoadGenResult:
    """Have LoadGen drive a model, and keep its logs with what they say.

    Args:
        model: an offline model or its directory.
        images: as for `infer`. All have to be readable.
        output: directory to make: LoadGen's logs, its `user.conf`, `loadgen.json`, and for accuracy `predictions.parquet`.
        options: scenario, mode, quick or not.
        labels: label file, for accuracy.
        force: replace an earlier run's output.
        progress: called as it goes on.

    Returns:
        LoadGen's verdict and figures. A run that is not valid is a result, not an error.

    Raises:
        EngineUnavailableError: LoadGen or the engine is not installed.
        DataError: no images, one that cannot be read, too many for the memory, or the model was calibrated with labelled ones.
        InferenceError: the engine failed, or LoadGen's process died.
        OutputError: `output` exists.
    """
    if not isinstance(model, OfflineModel):
        model = OfflineModel.load(Path(model))
    _require_loadgen()
    files.refuse_existing(Path(output), force=force)
    source = prepare_source(images, labels, model.manifest.model, options.limit)
    seen_in_calibration(model, source)
    _require_memory(model, source)
    options = replace(options, session=_session(model, options))
    _warn_of_batches(model, options)
    with files.new_directory(Path(output), marker=RESULT, force=force) as folder:
        start = perf_counter()
        with watch() as watched:
            _run(model, images, source, options, folder, progress)
        warn_if_busy(f"loadgen {options.scenario}, {model.label}", watched.hygiene)
        accuracy = None
        if options.accuracy:
            _write_predictions(folder, source, model.manifest.model.num_classes)
            accuracy = _accuracy(folder, source, labels, options)
        run = _Run(model, source, options, perf_counter() - start, watched.hygiene)
        result = _result(run, folder, accuracy)
        result.write(folder / RESULT)
    return result


def _require_loadgen() -> None:
    try:
        version("mlcommons-loadgen")
    except PackageNotFoundError as error:
        raise EngineUnavailableError(
            "MLCommons' LoadGen (mlcommons-loadgen) is not installed: pip install 'modelport[loadgen]'"
        ) from error


def _require_memory(model: OfflineModel, source: Source) -> None:
    shape, itemsize = model.manifest.input.shape, 1 if model.manifest.input.dtype == "uint8" else 4
    count = min(len(source), LOADED)
    needed = count * itemsize
    for side in shape[1:]:
        needed *= side
    if needed > (free := psutil.virtual_memory().available):
        raise DataError(
            f"{source.where}: {count:,} prepared images are {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free; "
            "compile the model with --input uint8, which takes a quarter"
        )


def _session(model: OfflineModel, options: LoadGenOptions) -> SessionOptions:
    """Streams where none were asked for: as `infer` has them where many images wait, one where one image or batch does."""
    alone = options.scenario == "SingleStream"
    if options.scenario == "MultiStream":
        alone = model.manifest.batch_size >= 8
    if alone:
        return options.session.with_streams(1)
    return share_cores(load(model.manifest.engine.name), options.session, model)


def _warn_of_batches(model: OfflineModel, options: LoadGenOptions) -> None:
    batch = model.manifest.batch_size
    if options.scenario in ("SingleStream", "Server") and batch > 1:
        log.warning(
            "%s: %s asks for single images, and one image costs this model a batch of %d; compile it for batch 1",
            model.label, options.scenario, batch,
        )  # fmt: skip
    if options.scenario == "MultiStream" and 8 % batch:
        log.warning("%s: MultiStream asks for 8 images at once; compile it for batch 8, or for 1, 2 or 4", model.label)


def _run(  # noqa: PLR0913, PLR0917
    model: OfflineModel, images: Path | str, source: Source, options: LoadGenOptions, folder: Path, progress: Progress
) -> None:
    plain = asdict(options)
    request = {
        "model": str(model.path),
        "images": str(images),
        "digest": identity(source),
        "folder": str(folder.resolve()),
        "progress": str(folder.resolve() / _PROGRESS),
        "session": plain.pop("session"),
        "options": plain,
    }
    try:
        with _followed(folder / _PROGRESS, f"loadgen {options.scenario}", progress):
            child.ask("modelport.mlperf.drive", request)
    except child.ChildDiedError as death:
        raise InferenceError(
            f"{model.path}: the process of LoadGen and the engine died ({death.how}): {death.last}; run `modelport bench` to see "
            "whether it is the engine"
        ) from death
    finally:
        (folder / _PROGRESS).unlink(missing_ok=True)


@contextmanager
def _followed(path: Path, what: str, progress: Progress) -> Iterator[None]:
    """Tell meanwhile what the child writes of how far it is; what it does no more is done."""
    over = Event()

    def look() -> None:
        totals: dict[str, int] = {}
        while not over.wait(_LOOK_S):
            with suppress(OSError, ValueError):  # not there yet, or half of it
                done, total, doing = path.read_text(encoding="utf-8").split(" ", 2)
                for earlier in totals.keys() - {doing}:
                    last = totals.pop(earlier)
                    progress(f"{what}: {earlier}", last, last)
                totals[doing] = int(total)
                progress(f"{what}: {doing}", int(done), int(total))
        for earlier, last in totals.items():
            progress(f"{what}: {earlier}", last, last)

    watcher = Thread(target=look, name="modelport-loadgen-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


# -- what came of it


@dataclass(frozen=True, slots=True)
class _Run:
    """One run that has come to its end."""

    model: OfflineModel
    source: Source
    options: LoadGenOptions
    wall_s: float
    hygiene: Hygiene | None


def _write_predictions(folder: Path, source: Source, classes: int) -> None:
    columns = schema(classes, all_scores=False)
    answers = read_answers(folder / ACCURACY, source)
    with writing(folder / PREDICTIONS, columns) as writer:
        while piece := list(islice(answers, PIECE)):
            writer.write(as_table(piece, columns))


def _accuracy(folder: Path, source: Source, labels: Path | str | None, options: LoadGenOptions) -> Accuracy | None:
    """TopN as `evaluate` counts it; None where nothing has a label."""
    if all(sample.label is None for sample in source):
        log.warning("no labels: the predictions are kept, and `modelport evaluate OUT --labels FILE` counts them")
        return None
    wanted = read_labels(labels) if labels is not None else None
    return count_parts([folder / PREDICTIONS], wanted, limited=options.limit is not None)


def _result(run: _Run, folder: Path, accuracy: Accuracy | None) -> LoadGenResult:
    detail, options = DetailLog(folder / DETAIL), run.options
    return LoadGenResult(
        **describe(run.model, options.session).model_dump(),
        scenario=options.scenario,
        mode="accuracy" if options.accuracy else "performance",
        quick=options.quick,
        deviations=deviations(options, len(run.source), run.model.manifest.model.arch),
        model=run.model.manifest.model,
        source=run.source.where,
        images=len(run.source),
        limit=options.limit,
        **detail.summary(options.scenario),
        accuracy=accuracy,
        logs=tuple(sorted(path.name for path in folder.iterdir() if path.name != PREDICTIONS)),
        wall_s=run.wall_s,
        environment=environment(),
        hygiene=run.hygiene,
    )
