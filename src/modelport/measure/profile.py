"""Operator profile: what every operator of an offline model costs, against what the machine allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .. import files
from ..data.decode import Decoder
from ..data.op_csv import is_op_csv
from ..data.op_csv_writer import write_op_csv
from ..data.source import open_source
from ..data.trace import write_trace
from ..engines import load
from ..engines.session import OperatorTimes, Session, SessionOptions
from ..errors import DataError, FormatError, InferenceError
from ..exclusive import warn_if_busy, watch
from ..host import environment
from ..offline import MANIFEST, OfflineModel
from ..progress import Progress, silent
from ..results import MachinePeaks, OperatorFacts, ProfileResult
from ..work import describe
from .bench import run_rounds
from .device_profile import analyse_op_csv
from .islands import find_islands
from .operators import describe_operators
from .peaks import measure_peaks

PROFILE_FILE, TRACE_FILE = "profile.json", "trace.json"
_BLOCKS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileOptions:
    """What to profile with.

    Attributes:
        rounds: counted batches, with counters and again without.
        warmup: batches before each block of them, not counted.
        threads: cores in all; None is the engine's choice.
        images: the first of them make the batch; None takes random input.
        peaks: measure what the machine can do, for each operator's limit.
        onnx: of CSV files, the ONNX file that the model came from.
    """

    rounds: int = 50
    warmup: int = 3
    threads: int | None = None
    images: Path | str | None = None
    peaks: bool = True
    onnx: Path | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.warmup < 1:
            raise ValueError(f"rounds and warmup must be at least 1, got {self.rounds} and {self.warmup}")


def profile(
    path: OfflineModel | Path | str,
    *,
    options: ProfileOptions | None = None,
    output: Path | str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> ProfileResult:
    """Profile an offline model operator by operator; or analyse what Ascend's `msprof` wrote in the same way.

    Rounds with the engine's counters and rounds without take turns in blocks, so that what the counters cost is seen.

    Args:
        path: an offline model or its directory; or an `op_summary` CSV file, or a directory with some.
        options: rounds, warmup, threads, images, peaks.
        output: directory to make: `profile.json`, `trace.json` (for Perfetto), `op_summary_0_1.csv`, `op_statistic_0_1.csv`.
        force: replace `output` if it exists.
        progress: called as rounds are done.

    Raises:
        FormatError: it is neither an offline model nor such CSV files, or a CSV file is malformed.
        InferenceError: the engine has no counters, or failed.
        DataError: the images cannot be read.
        OutputError: `output` exists.
    """
    options = options or ProfileOptions()
    if output is not None:
        files.refuse_existing(Path(output), force=force)
    if not isinstance(path, OfflineModel) and is_op_csv(Path(path)):
        result = analyse_op_csv(Path(path), options.onnx)
    else:
        model = path if isinstance(path, OfflineModel) else _load(Path(path))
        if options.onnx is not None:
            raise FormatError(f"{model.path}: is an offline model, which knows its ONNX graph; --onnx is for CSV files")
        result = _measure(model, options, progress)
    if output is not None:
        with files.new_directory(Path(output), marker=PROFILE_FILE, force=force) as directory:
            result.write(directory / PROFILE_FILE)
            write_trace(result, directory / TRACE_FILE)
            write_op_csv(result, directory)
    return result


def _load(path: Path) -> OfflineModel:
    if path.is_dir() and not (path / MANIFEST).is_file():
        raise FormatError(
            f"{path}: is neither an offline model ({MANIFEST}) nor a folder with op_summary_*.csv files in it"
        )
    return OfflineModel.load(path)


def _measure(model: OfflineModel, options: ProfileOptions, progress: Progress) -> ProfileResult:
    engine = load(model.manifest.engine.name)
    plain = SessionOptions(threads=options.threads)
    with engine.open(model, SessionOptions(threads=options.threads, profile=True)) as counting:
        batch = counting.random_batch() if options.images is None else real_batch(model, options.images)
        with watch() as watched, engine.open(model, plain) as session:
            told = partial(progress, f"profile {model.label}")
            blocks, latencies = _take_turns(counting, session, batch, options, told)
            on_processor = not engine.on_accelerator(model)  # what is measured are the processor's peaks
            peaks = _peaks(model, blocks[0].operators) if options.peaks and on_processor else None
    warn_if_busy(f"profile {model.label}", watched.hygiene)
    operators = describe_operators(
        blocks[0].operators,
        np.concatenate([block.durations_us for block in blocks]),
        None if blocks[0].gaps_us is None else np.concatenate([b.gaps_us for b in blocks if b.gaps_us is not None]),
        peaks,
    )
    return ProfileResult(
        **describe(model, plain).model_dump(),
        origin="measured",
        where=str(model.path),
        model=model.manifest.model,
        input="random" if options.images is None else str(options.images),
        rounds=options.rounds,
        warmup=options.warmup,
        blocks=len(blocks),
        latencies_s=latencies,
        counting_s=tuple(latency for block in blocks for latency in block.latencies_s),
        counter_us=float(np.median([block.counter_us for block in blocks])),
        operators=operators,
        islands=find_islands(operators, "compile --input uint8" if counting.input.dtype == "float32" else None),
        peaks=peaks,
        environment=environment(),
        hygiene=watched.hygiene,
    )


def _take_turns(
    counting: Session, plain: Session, batch: np.ndarray, options: ProfileOptions, progress: Callable[[int, int], None]
) -> tuple[list[OperatorTimes], tuple[float, ...]]:
    """Blocks of rounds with and without counters, in turn; what is first changes too."""
    blocks: list[OperatorTimes] = []
    latencies: list[float] = []
    sizes = [len(part) for part in np.array_split(np.arange(options.rounds), min(_BLOCKS, options.rounds))]

    def with_counters(rounds: int) -> None:
        blocks.append(counting.profile(batch, warmup=options.warmup, rounds=rounds))

    def without(rounds: int) -> None:
        run_rounds(plain, batch, options.warmup, lambda done, total: None)
        latencies.extend(run_rounds(plain, batch, rounds, lambda done, total: None)[0])

    for number, rounds in enumerate(sizes):
        for step in (with_counters, without) if number % 2 == 0 else (without, with_counters):
            step(rounds)
        progress(len(latencies), options.rounds)
    names = [operator.name for operator in blocks[0].operators]
    if any([operator.name for operator in block.operators] != names for block in blocks):
        raise InferenceError(f"{counting.where}: the engine ran other operators in one block than in another")
    return blocks, tuple(latencies)


def _peaks(model: OfflineModel, operators: Sequence[OperatorFacts]) -> MachinePeaks:
    """What the machine can do in the precisions that are executed."""
    engine = model.manifest.engine.name
    used = {operator.precision for operator in operators}
    return measure_peaks(engine, precisions=[each for each in load(engine).precisions if each in used])


def real_batch(model: OfflineModel, images: Path | str) -> np.ndarray:
    """The first images as a batch for the model; fewer than a batch are repeated.

    Raises:
        DataError: no images, or one that cannot be read.
    """
    spec = model.manifest.input
    batch = np.empty(spec.shape, spec.dtype)
    samples = open_source(images).limited(len(batch)).samples
    decoder = Decoder(model.manifest.model.preprocess)
    for row in range(len(batch)):
        sample = samples[row % len(samples)]
        try:
            decoder(sample, sample.read(), batch[row])
        except DataError as error:
            raise DataError(f"{sample.origin}: {error}") from error
    return batch
