"""An ais_bench run: input files (or made-up data) through one session per device, outputs and summary to disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import perf_counter

import numpy as np

from ... import files
from ...data import dump
from ...errors import InferenceError
from ...offline import OfflineModel
from .inputs import PURE_STEM, Batch, FileInput, MadeUpInput
from .session import InferSession
from .summary import AisResult, DeviceTimes, refuse_foreign_summary, write_summary


@dataclass(frozen=True, kw_only=True, slots=True)
class AisOptions:
    """What to run, by ais_bench's names.

    Attributes:
        input: a directory, or files with commas between; None is pure inference on made-up data.
        pure_data_type: `zero` or `random`.
        output: where the directory of outputs and the summary are made; None writes nothing.
        output_dirname: the directory's name; None is the time. One of an earlier run is replaced.
        outfmt: `NPY`, `BIN` or `TXT`.
        loop: times that each batch is repeated.
        warmup_count: inferences before, on each device, not counted.
        device: ids. Batches are dealt out to them in turn; pure inference is run on each.
        batchsize: to be checked against the model's; None is the model's.
        run_mode: `full` and `tensor` read all input before the first inference; `array` and `files` batch by batch.
        debug: log the model's inputs and outputs.
        arguments: the command line, for the summary.
    """

    input: str | None = None
    pure_data_type: str = "zero"
    output: Path | None = None
    output_dirname: str | None = None
    outfmt: str = "BIN"
    loop: int = 1
    warmup_count: int = 1
    device: tuple[int, ...] = (0,)
    batchsize: int | None = None
    run_mode: str = "array"
    debug: bool = False
    arguments: tuple[str, ...] = ()


def run(model: Path | str, options: AisOptions) -> AisResult:
    """Run a model as ais_bench does.

    Args:
        model: directory of the offline model.
        options: input, output and how.

    Returns:
        The figures; the outputs are on disk.

    Raises:
        FormatError: the model or an input file is not what it should be.
        DataError: there is no input, or it is contradictory.
        InferenceError: the batch size is not the model's, or the engine failed.
        OutputError: the output directory holds something else than an earlier run's outputs.
    """
    offline = OfflineModel.load(Path(model))
    if options.batchsize not in (None, offline.manifest.batch_size):
        raise InferenceError(
            f"{offline.path}: --batchsize {options.batchsize}, but the model's is {offline.manifest.batch_size}; "
            "leave the option out, or compile the model for that batch size"
        )
    tensor = offline.manifest.input
    source = MadeUpInput(options.pure_data_type, tensor) if options.input is None else FileInput(options.input, tensor)
    target = _target(options)
    with _making(target, timed=options.output_dirname is None) as directory:
        work = _Run(source, options, directory)
        devices = work.on_devices(offline)
    result = AisResult(
        devices=devices,
        files=_files_info(source, options, target),
        output=target,
        summary=_summary_of(target) if target else None,
    )
    write_summary(result, list(options.arguments))
    return result


class _Run:
    """One run's input and where its outputs go."""

    def __init__(self, source: FileInput | MadeUpInput, options: AisOptions, directory: Path | None) -> None:
        self._source, self._options, self._directory = source, options, directory
        self._stop = Event()  # after the first failure, the other devices need not go on

    def on_devices(self, model: OfflineModel) -> tuple[DeviceTimes, ...]:
        """Run all batches, each device in a thread of its own."""
        ids, batches = self._options.device, self._source.batches
        with ExitStack() as stack:
            sessions = []
            for device in ids:
                sessions.append(InferSession(device, model, debug=self._options.debug, loop=self._options.loop))
                stack.callback(sessions[-1].free_resource)
            pure = isinstance(self._source, MadeUpInput)
            shares = [batches if pure else batches[number :: len(ids)] for number in range(len(ids))]
            writes = [number == 0 or not pure for number in range(len(ids))]
            if len(ids) == 1:  # in this thread, where an interrupt ends it at once
                return (self._on_device(sessions[0], shares[0], writes[0]),)
            return self._together(sessions, shares, writes)

    def _together(
        self, sessions: list[InferSession], shares: list[list[Batch]], writes: list[bool]
    ) -> tuple[DeviceTimes, ...]:
        with ThreadPoolExecutor(len(sessions)) as pool:
            try:
                return tuple(pool.map(self._guarded, sessions, shares, writes))
            except BaseException:
                self._stop.set()
                raise

    def _guarded(self, session: InferSession, batches: list[Batch], write: bool) -> DeviceTimes:
        try:
            return self._on_device(session, batches, write)
        except BaseException:
            self._stop.set()
            raise

    def _on_device(self, session: InferSession, batches: list[Batch], write: bool) -> DeviceTimes:
        times = DeviceTimes(session.device_id)
        if not batches:
            return times
        early = self._options.run_mode in ("full", "tensor")
        loaded = [self._source.load(batch) for batch in batches] if early else None
        self._warm_up(session, batches[0])
        times.started = time.time()
        for number, batch in enumerate(batches):
            if self._stop.is_set():
                break
            arrays = loaded[number] if loaded else self._source.load(batch)
            start = perf_counter()
            data = self._source.assemble(arrays)
            times.h2d.append((perf_counter() - start) * 1000)
            scores = session.infer([data])[0]
            times.d2h.append(0.0)
            times.images.append(batch.images)
            if write:
                self._write(batch, scores)
        times.ended = time.time()
        times.compute = session.sumary().exec_time_list
        return times

    def _warm_up(self, session: InferSession, batch: Batch) -> None:
        data = self._source.assemble(self._source.load(batch))
        session.set_loop_count(1)
        for _ in range(self._options.warmup_count):
            session.infer([data])
        session.reset_summaryinfo()
        session.set_loop_count(self._options.loop)

    def _write(self, batch: Batch, scores: np.ndarray) -> None:
        if self._directory is not None:
            for stem, rows in batch.split(scores):
                with files.reporting(self._directory / stem):
                    dump.write_scores(self._directory, stem, 0, rows, _suffix(self._options))


@contextmanager
def _making(target: Path | None, *, timed: bool) -> Iterator[Path | None]:
    """The directory of outputs in the making; a named one of an earlier run is replaced."""
    if target is None:
        yield None
        return
    refuse_foreign_summary(_summary_of(target))
    with files.new_directory(target, marker=dump.MARKER, force=not timed) as directory:
        with files.reporting(directory / dump.MARKER):
            (directory / dump.MARKER).touch()
        yield directory


def _target(options: AisOptions) -> Path | None:
    if options.output is None:
        return None
    if options.output_dirname is not None:
        return options.output / options.output_dirname
    now = time.time()
    while (path := options.output / time.strftime("%Y_%m_%d-%H_%M_%S", time.localtime(now))).exists():
        now += 1  # another run of the same second has that name
    return path


def _summary_of(target: Path) -> Path:
    return target.with_name(f"{target.name}_summary.json")


def _suffix(options: AisOptions) -> str:
    return f".{options.outfmt.lower()}"


def _files_info(
    source: FileInput | MadeUpInput, options: AisOptions, target: Path | None
) -> dict[str, dict[str, list[str]]]:
    """Input and output file of each input, by its number, as text because JSON has no other keys."""
    suffix = _suffix(options)
    info: dict[str, dict[str, list[str]]] = {}
    for batch in source.batches:
        for name, stem in [(str(file), file.stem) for file in batch.files] or [(PURE_STEM, PURE_STEM)]:
            outputs = [] if target is None else [str(target / f"{stem}_0{suffix}")]
            info[str(len(info))] = {"infiles": [name], "outfiles": outputs}
    return info
