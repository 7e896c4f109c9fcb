"""The guide's benchmark tool: a real-data run over an `.info` list, or pure inference by rounds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.dump import MARKER, write_scores
from ..data.predictions import Prediction
from ..data.source import RAW_SUFFIX, Source, open_source
from ..engines import open_model
from ..errors import DataError, FormatError, InferenceError
from ..exclusive import warn_if_busy
from ..files import new_directory
from ..host import usable_cores
from ..measure.bench import bench
from ..offline import OfflineModel
from ..pipeline import PipelineOptions
from ..progress import Progress, silent
from ..results import InferResult
from ..work import InferOptions, Work, describe, run_work
from .devices import options_for
from .performance import PureInference, RealDataPerformance, pure_file, real_data_file, write_performance
from .prepare import stem

log = logging.getLogger("modelport")

RESULT = Path("result")
_DISAGREEMENT = 0.10
_FIRST_OUTPUT = 1  # the tool counts outputs from 1; its successor from 0


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkOptions:
    """The tool's flags.

    Attributes:
        om_path: offline model.
        batch_size: must be the model's.
        devices: device ids; each gets a share of the inputs, and files of its own.
        info: `.info` list of a real-data run.
        size: width and height that the flags state; None where they are left out.
        binary: write `.bin` instead of `.txt`.
        decode: inputs are JPEG files that the tool decodes and prepares (`-useDvpp=True`).
    """

    om_path: Path
    batch_size: int
    devices: tuple[int, ...] = (0,)
    info: Path | None = None
    size: tuple[int | None, int | None] = (None, None)
    binary: bool = False
    decode: bool = False


@dataclass(frozen=True, slots=True)
class RealDataRun:
    """One device's part: its figures and the two places it wrote to."""

    device: int
    result: InferResult
    dump: Path
    performance: Path


def load_model(options: BenchmarkOptions) -> OfflineModel:
    """The offline model, whose batch size must be the flag's.

    Raises:
        FormatError: no offline model, or another batch size.
    """
    model = OfflineModel.load(options.om_path)
    if model.manifest.batch_size != options.batch_size:
        raise FormatError(
            f"{options.om_path}: its batch size is {model.manifest.batch_size}, -batch_size says {options.batch_size}"
        )
    return model


def run_real_data(
    options: BenchmarkOptions, directory: Path = RESULT, progress: Progress = silent
) -> list[RealDataRun]:
    """Classify the inputs of an `.info` list and write scores and performance files, one set per device.

    Writes `dumpOutput_device{id}/{stem}_1.txt` (or `.bin`) and `perf_vision_batchsize_{bs}_device_{id}.txt` below
    `directory`, replacing those of an earlier run whole, so that no stale output stays.

    Raises:
        DataError: the list is of another kind or size than the flags say, or an input is unreadable.
        FormatError: a line of the list is malformed, or the model's batch size is another.
    """
    assert options.info is not None
    model = load_model(options)
    source = _read_inputs(options, model)
    count = len(options.devices)
    shares = [replace(source, samples=source.samples[part::count]) for part in range(count)]
    jobs = [(device, share) for device, share in zip(options.devices, shares, strict=True) if share.samples]

    def run(job: tuple[int, Source]) -> RealDataRun:
        device, share = job
        return _run_device(options, model, device, share, directory, progress)

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def _read_inputs(options: BenchmarkOptions, model: OfflineModel) -> Source:
    source = open_source(options.info)
    _, height, width = model.manifest.model.preprocess.input_size
    for name, asked, has in (("input_width", options.size[0], width), ("input_height", options.size[1], height)):
        if asked is not None and asked != has:
            raise DataError(f"-{name}={asked}: {options.om_path} takes {has}")
    raw = [sample.suffix == RAW_SUFFIX for sample in source]
    if options.decode and any(raw):
        raise DataError(
            f"{options.info}: lists preprocessed .bin files, which -useDvpp=True cannot decode; -useDvpp=False takes them"
        )
    if not options.decode and not all(raw):
        raise DataError(f"{options.info}: lists images, which -useDvpp=False does not decode; -useDvpp=True does")
    return source


def _run_device(  # noqa: PLR0913, PLR0917
    options: BenchmarkOptions, model: OfflineModel, device: int, share: Source, directory: Path, progress: Progress
) -> RealDataRun:
    dump, suffix = directory / f"dumpOutput_device{device}", ".bin" if options.binary else ".txt"
    pipeline = PipelineOptions(decoders=usable_cores(), count_bad_images=False, keep_scores=True)
    session_options = options_for(model, device)
    work = Work(
        target=describe(model, session_options),
        spec=model.manifest.model,
        source=share,
        options=InferOptions(session=session_options, pipeline=pipeline),
    )

    def write(prediction: Prediction) -> None:
        if prediction.scores is None:
            raise InferenceError(f"{prediction.sample.origin}: {prediction.error}")
        write_scores(target, stem(prediction.sample.key), _FIRST_OUTPUT, prediction.scores, suffix)

    with new_directory(dump, marker=MARKER, force=True) as target, open_model(model, work.options.session) as session:
        result = run_work(session, work, write, progress)
        (target / MARKER).touch()
    warn_if_busy(f"device {device}", result.hygiene)
    path = directory / real_data_file(options.batch_size, device)
    write_performance(path, RealDataPerformance.of(result))
    _compare_speeds(options, device, directory)
    return RealDataRun(device, result, dump, path)


def run_pure(
    options: BenchmarkOptions,
    rounds: int,
    directory: Path = RESULT,
    on_round: Callable[[int, float], None] | None = None,
) -> list[tuple[Path, PureInference]]:
    """Pure inference by rounds, one device after another; writes `PureInfer_perf_of_{stem}_in_device_{id}.txt`.

    Args:
        options: model, batch size and devices.
        rounds: counted rounds.
        directory: where the files go.
        on_round: called with a round's number, from 0, and its milliseconds per sample.

    Returns:
        Each device's file and figures.
    """
    model = load_model(options)
    done = []
    for device in options.devices:
        result = bench(model, rounds=rounds, warmup=1, options=options_for(model, device))
        for number, seconds in enumerate(result.latencies_s):
            if on_round:
                on_round(number, seconds * 1000 / options.batch_size)
        path = directory / pure_file(options.om_path, device)
        performance = PureInference.of(result.latencies_s, options.batch_size)
        write_performance(path, performance)
        _compare_speeds(options, device, directory)
        done.append((path, performance))
    return done


def _compare_speeds(options: BenchmarkOptions, device: int, directory: Path) -> None:
    """Chapter 7's rule: the real-data run's figures count. Say where pure inference, a quick look, differs from them."""
    real, pure = directory / real_data_file(options.batch_size, device), directory / pure_file(options.om_path, device)
    if not (real.exists() and pure.exists()):
        return
    counts, quick = RealDataPerformance.read(real).interface_rate, PureInference.read(pure).rate
    if abs(quick / counts - 1) > _DISAGREEMENT:
        log.warning(
            "pure inference (%s) gives %.4g samples/s, the real-data run (%s) %.4g: %+.0f %%; the real-data figure counts",
            pure.name, quick, real.name, counts, (quick / counts - 1) * 100,
        )  # fmt: skip
