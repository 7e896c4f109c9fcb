"""What an engine is: it compiles an ONNX classifier into an offline model, and opens one as a session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, Self

import numpy as np

from ..errors import CompileError, EngineUnavailableError, InferenceError
from ..graph import ClassifierGraph
from ..graph.source import SOURCE_FILE, SourceGraph
from ..host import fingerprint
from ..offline import OfflineModel, TensorSpec
from ..results import OperatorFacts
from ..spec import ModelSpec, Precision, Preprocess

INPUT_DTYPES = ("float32", "uint8")
Taps = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # a graph's inputs by name to all its outputs by name
BATCH_TIMEOUT_S = 60.0
UNKNOWN_VERSION = "unknown"  # of a runtime that does not say; nothing is concluded from it


@dataclass(frozen=True, kw_only=True, slots=True)
class CompileOptions:
    """What to compile for.

    Attributes:
        precision: arithmetic of the heavy operators.
        batch_size: fixed.
        soc_version: the chip, such as Ascend310, for an engine that compiles for one; None asks the chip in this machine.
        aipp: take uint8 N x height x width x channels; the offline model subtracts the mean and divides itself.
        log: level of the compiler's own log, where it has one.
        input_dtype: float32 for normalised N x channels x height x width; uint8 for the decoder's pixels, N x height x
            width x channels, which the model then normalises itself.
        device: cpu or cuda, for an engine that compiles for both; None leaves it to the engine.
        program: file of the network as an exported PyTorch program (`exporter.program`), for an engine that compiles that and
            not the ONNX file's graph. PyTorch's loader trusts it, so it must be one's own.
        tf32: whether float32 products may be rounded to TF32, where a GPU can.
        autotune: measure the compiler's options here and keep what is fastest, where the engine has any; takes minutes.
    """

    precision: Precision = Precision.F32
    batch_size: int = 1
    soc_version: str | None = None
    aipp: bool = False
    log: str = "error"
    input_dtype: str = "float32"
    device: str | None = None
    program: str | None = None
    tf32: bool = False
    autotune: bool = False

    def __post_init__(self) -> None:
        if self.input_dtype not in INPUT_DTYPES:
            raise ValueError(f"input_dtype must be {' or '.join(INPUT_DTYPES)}, got {self.input_dtype!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    def input_shape(self, preprocess: Preprocess) -> tuple[int, int, int, int]:
        """Static shape of the input of the graph that an engine gets to compile."""
        channels, height, width = preprocess.input_size
        if self.input_dtype == "uint8":
            return self.batch_size, height, width, channels
        return self.batch_size, channels, height, width


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolation:
    """Run the engine in a process of its own, whose death or hanging costs no more than the image that caused it.

    Attributes:
        batch_timeout: seconds after which a batch without an answer hangs.
        restarts: how often the engine is started again, on each device, before the run ends.
    """

    batch_timeout: float = BATCH_TIMEOUT_S
    restarts: int = 64

    def __post_init__(self) -> None:
        if not self.batch_timeout > 0:
            raise ValueError(f"batch_timeout must be above 0 seconds, got {self.batch_timeout}")
        if self.restarts < 0:
            raise ValueError(f"restarts must be at least 0, got {self.restarts}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionOptions:
    """How to run.

    Attributes:
        streams: batches at once on each device; None leaves it to who opens the session, and is 1 where nobody says more.
        threads: cores in all; None is the engine's choice.
        devices: numbers of the accelerators; of the processor of this machine, parts of its cores: 0 alone is all of them, 0 and
            1 are halves.
        cores: numbers of the processor cores that it is to keep to; empty where it may use all.
        profile: so that `Session.profile` can be called; one stream on one device only.
        isolation: run in a process of its own; None runs in this one. It changes no score.
    """

    streams: int | None = None
    threads: int | None = None
    devices: tuple[int, ...] = (0,)
    cores: tuple[int, ...] = ()
    profile: bool = False
    isolation: Isolation | None = None

    def __post_init__(self) -> None:
        if self.streams is not None and self.streams < 1:
            raise ValueError(f"streams must be at least 1, got {self.streams}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if not self.devices or min(self.devices) < 0 or len(set(self.devices)) < len(self.devices):
            raise ValueError(f"devices must be different numbers from 0, at least one; got {self.devices}")
        if self.profile and ((self.streams or 1) > 1 or len(self.devices) > 1):
            raise ValueError("operators are timed one after the other: profile takes one stream and one device")
        if self.profile and self.isolation:
            raise ValueError("operators are timed in this process: profile goes without isolation")

    def with_streams(self, streams: int, threads: int | None = None) -> SessionOptions:
        """These options, or that many streams where they say nothing of streams; `threads` likewise, and only then."""
        if self.streams is not None:
            return self
        return replace(self, streams=streams, threads=self.threads or threads)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """What an engine's compiler left in the directory, and the precision that it really chose.

    Attributes:
        files: names of what it left.
        executed: precision of the heavy operators.
        uint8_input: whether the model takes uint8 NHWC, and not float32 NCHW.
        rest: precision of what int8 leaves; None in another precision.
        gpu: the GPU that it was compiled for, as the manifest names it; None where it is for none.
        settings: which of the compiler's options were on, by name.
    """

    files: tuple[str, ...]
    executed: Precision
    uint8_input: bool = False
    rest: Precision | None = None
    gpu: dict[str, str] | None = None
    settings: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What compiling would run: a command and the text files that it reads besides the ONNX file, by name."""

    command: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorTimes:
    """Times of all operators over a block of rounds.

    Attributes:
        operators: in the order of execution.
        durations_us: samples x operators. A sample is one round, or the mean of the block where the engine's counters only
            add up. What the counters themselves are known to cost is taken off.
        gaps_us: samples x operators, from the end of the operator before (or the round's start) to this one's start; None
            where the engine does not say.
        latencies_s: of each round, seconds, with the counters on.
        counter_us: what was taken off each operator's time, microseconds; negative where the counters cut off fractions.
    """

    operators: tuple[OperatorFacts, ...]
    durations_us: np.ndarray
    gaps_us: np.ndarray | None
    latencies_s: tuple[float, ...]
    counter_us: float


class Session(ABC):
    """An opened offline model: exists means ready. Close it, or use it as a context manager.

    `infer` may be called from up to `slots` threads at once; each call runs one batch to its end.
    """

    on_cores: bool = False  # True where it computes on this machine's cores, which decoding needs as well
    restarts: int | None = None  # how often its process was started again; None where it has none of its own
    cpu_elsewhere_s: float = 0.0  # processor time that it has used in other processes, as far as it knows

    def __init__(self, where: str, tensors: tuple[TensorSpec, TensorSpec], slots: int) -> None:
        """`where` names the model in errors; `tensors` are its input and its output."""
        self.where = where
        self.input, self.output = tensors
        self.slots = slots
        self.counting = False
        self.device = "0"
        self.cores: tuple[int, ...] = ()  # that callers' threads are to keep to; empty where all will do
        self._dtype = np.dtype(self.input.dtype)
        self._closed = False

    @property
    def by_device(self) -> dict[str, Session]:
        """The sessions that it is made of, by the name of their device: itself, unless there are several devices."""
        return {self.device: self}

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.input.shape[0]

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """Run one batch.

        Args:
            batch: float32, batch size x channels x height x width, or uint8, batch size x height x width x channels, as
                the manifest's input says.

        Returns:
            Scores, float32, batch size x classes; the caller's own copy.

        Raises:
            InferenceError: the session is closed, dtype or shape differ from the manifest's, or the runtime failed.
        """
        self._require_fit(batch)
        scores = self._infer(batch)
        if scores.shape != self.output.shape:
            raise InferenceError(
                f"{self.where}: output {self.output.name!r} is {_show(scores.shape)}, expected {_show(self.output.shape)}; "
                "was --num-classes right?"
            )
        return scores

    def infer_rows(self, batch: np.ndarray, rows: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """Run one batch and tell which images of it the engine cannot run, where the session can find out.

        Args:
            batch: as for `infer`.
            rows: those that hold images.

        Returns:
            Scores, and the reason by row for those of these rows that have none.

        Raises:
            InferenceError: as `infer`.
        """
        return self.infer(batch), {}

    def profile(self, batch: np.ndarray, *, warmup: int = 3, rounds: int = 5) -> OperatorTimes:
        """Time every operator by the engine's own counters, which start afresh with each call.

        Args:
            batch: as for `infer`.
            warmup: rounds before, not counted; at least 1, since the first round after counters were set up is a slow one.
            rounds: counted ones.

        Raises:
            InferenceError: the session was not opened with `profile`, the engine has no counters, or as `infer`.
        """
        if warmup < 1 or rounds < 1:
            raise ValueError(f"warmup and rounds must be at least 1, got {warmup} and {rounds}")
        self._require_fit(batch)
        if not self.counting:
            raise InferenceError(
                f"{self.where}: was opened without counters: open it with SessionOptions(profile=True)"
            )
        return self._profile(batch, warmup, rounds)

    def _require_open(self) -> None:
        if self._closed:
            raise InferenceError(f"{self.where}: the session is closed")

    def _require_fit(self, batch: np.ndarray) -> None:
        self._require_open()
        if batch.dtype != self._dtype or batch.shape != self.input.shape:
            raise InferenceError(
                f"{self.where}: input {self.input.name!r} got {batch.dtype} {_show(batch.shape)}, "
                f"expected {self.input.dtype} {_show(self.input.shape)}"
            )

    def random_batch(self) -> np.ndarray:
        """A batch of noise that fits the input, the same every time: for measuring, where the scores do not matter."""
        rng = np.random.default_rng(0)
        if self._dtype == np.uint8:
            return rng.integers(0, 256, self.input.shape, dtype=np.uint8)
        return rng.standard_normal(self.input.shape, dtype=np.float32)

    @abstractmethod
    def _infer(self, batch: np.ndarray) -> np.ndarray:
        """Run one checked batch."""

    def _profile(self, batch: np.ndarray, warmup: int, rounds: int) -> OperatorTimes:
        """Time the operators of a checked batch. An engine that writes this sets its `counters`."""
        raise InferenceError(f"{self.where}: its engine has no operator counters")

    def close(self) -> None:
        """Give the runtime's resources back. Calling it twice is fine."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Engine(ABC):
    """A runtime that compiles and runs offline models. Stateless; the runtime is imported when it is first needed."""

    name: ClassVar[str]
    title: ClassVar[str]  # as its makers write it
    extra: ClassVar[str | None]  # what to pip-install: modelport[extra]
    precisions: ClassVar[tuple[Precision, ...]]
    portable: ClassVar[bool] = False  # True where an offline model may move to another kind of processor
    quantizer: ClassVar[Literal["nncf", "onnxruntime"]] = "nncf"  # whose QDQ file it runs in int8
    accelerator: ClassVar[bool] = False  # True where it compiles for a chip of its own and runs on several devices
    counters: ClassVar[bool] = False  # True where its sessions can time their operators
    device_kinds: ClassVar[tuple[str, ...]] = ()  # what `CompileOptions.device` may name
    from_program: ClassVar[bool] = False  # True where it compiles `CompileOptions.program` and not the graph
    batches_in_flight: ClassVar[int] = 1  # on each device of an accelerator, so that copying and computing overlap

    @abstractmethod
    def version(self) -> str:
        """Version of the installed runtime.

        Raises:
            EngineUnavailableError: it is not installed.
        """

    def running_version(self) -> str:
        """Version of what would run a model here, where that is not what compiles it."""
        return self.version()

    def devices(self) -> dict[str, str]:
        """What the installed runtime says that it can compute on, by its own names, and what they are; empty where it does not say.

        Raises:
            EngineUnavailableError: it is not installed.
        """
        return {}

    def on_accelerator(self, model: OfflineModel) -> bool:
        """Whether a model runs on devices of their own, and not on this machine's processor."""
        return self.accelerator

    def compiler_environment(self) -> dict[str, str]:
        """Environment variables for the process that compiles."""
        return {}

    def resolve(self, options: CompileOptions) -> CompileOptions:
        """Check what is asked for, and fill in what only the engine knows.

        Raises:
            CompileError: the engine does not offer it.
        """
        if options.precision not in self.precisions:
            raise CompileError(
                f"{self.title} does not offer {options.precision} here; it offers {', '.join(self.precisions)}"
            )
        if not self.accelerator and (options.soc_version or options.aipp):
            raise CompileError(
                f"{self.title} compiles for this machine's processor: --soc-version and --aipp are for an accelerator"
            )
        if options.device not in (None, *self.device_kinds):
            offered = ", ".join(self.device_kinds) or "the one that it is made for; leave --device out"
            raise CompileError(f"{self.title} does not compile for device {options.device!r}; it does for {offered}")
        if not self.from_program and (options.program or options.tf32 or options.autotune):
            raise CompileError(
                f"{self.title} compiles the ONNX file: --checkpoint, --random-weights, --tf32 and --autotune are for inductor"
            )
        if self.accelerator and options.input_dtype == "uint8":
            raise CompileError(
                f"{self.title} takes uint8 pixels through its own preprocessing: compile with --aipp instead of --input uint8"
            )
        return options

    def plan(self, graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions) -> Plan | None:
        """The command that compiling would run, for resolved options; None where the engine compiles by no command."""
        return None

    @abstractmethod
    def compile_into(
        self, directory: Path, graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions
    ) -> Compiled:
        """Compile the graph into files in `directory`, in this process.

        Callers use `compiler.compile_model`, which does this in a child process and writes the manifest.

        Raises:
            CompileError: the runtime refused the graph, or would run another precision.
        """

    @abstractmethod
    def _open(self, model: OfflineModel, options: SessionOptions) -> Session:
        """Open a model whose version and host have been checked, on one device."""

    def open(self, model: OfflineModel, options: SessionOptions) -> Session:
        """Open an offline model, on each device that is asked for.

        Raises:
            EngineUnavailableError: the runtime is missing, is another version, or this is another kind of processor, or one with
                fewer cores than devices.
            InferenceError: operators are to be timed, and the engine has no counters; or its runtime refused the model.
        """
        from .devices import open_each, split_cores
        from .isolated import IsolatedSession  # both are Sessions

        options = options.with_streams(1)
        accelerator = self.on_accelerator(model)
        each = [replace(options, devices=(number,)) for number in options.devices]
        parts = each if accelerator else split_cores(self.title, options)
        if options.isolation:  # the child opens the model and checks what is checked here
            return open_each(partial(IsolatedSession, model), parts, at_once=accelerator)
        if options.profile and not self.counters:
            raise InferenceError(
                f"{model.path}: {self.title} has no operator counters; compile it for an engine that has (openvino, "
                "onnxruntime), or give `modelport profile` the op_summary CSV of the device's own profiler"
            )
        manifest, installed = model.manifest, self.running_version()
        if installed != manifest.engine.version and UNKNOWN_VERSION not in (installed, manifest.engine.version):
            raise EngineUnavailableError(
                f"{model.path}: was compiled with {self.title} {manifest.engine.version}, installed is {installed}; "
                "compile it again"
            )
        if manifest.host is not None:
            here = fingerprint()
            lacking = sorted(set(manifest.host.features) - set(here.features))
            if manifest.host.machine != here.machine or lacking:
                reason = f"which lacks {', '.join(lacking)}" if lacking else f"a {here.machine} machine"
                raise EngineUnavailableError(
                    f"{model.path}: was compiled on another processor ({manifest.host.cpu}, {manifest.host.machine}) "
                    f"than this one ({here.cpu}), {reason}; compile it here"
                )
        session = open_each(partial(self._open, model), parts, at_once=accelerator)
        session.counting = options.profile
        return session

    def tap(self, onnx: Path, precision: Precision, *, plain: bool = False) -> Taps:
        """Compile a graph for a moment, to look at its outputs, which may be any of its tensors.

        Args:
            onnx: graph with static input shapes; it need not be a classifier.
            precision: as for compiling; in int8 the rest runs as it does in an offline model.
            plain: operator by operator as the file says, without the engine's optimisations.

        Raises:
            EngineUnavailableError: the engine cannot show intermediate tensors, or is not installed.
            CompileError: it refuses the graph, or would run another precision.
        """
        raise EngineUnavailableError(
            f"{self.title} cannot show intermediate tensors; compare with an engine that can: onnxruntime, openvino, or the "
            "fp16 emulation"
        )

    def missing(self, module: str, error: ImportError) -> EngineUnavailableError:
        """The error to raise where the runtime cannot be imported."""
        found = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be loaded ({error})"
        return EngineUnavailableError(f"{self.title} ({module}) {found}: pip install 'modelport[{self.extra}]'")


def read_source(model: OfflineModel) -> SourceGraph:
    """The ONNX graph that an offline model was compiled from; empty where an earlier version did not keep it."""
    return SourceGraph.read(model.file(SOURCE_FILE)) if SOURCE_FILE in model.manifest.files else SourceGraph([])


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
