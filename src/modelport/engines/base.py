"""What an engine is: it compiles an ONNX classifier into an offline model, and opens one as a session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ..errors import CompileError, EngineUnavailableError, InferenceError
from ..graph import ClassifierGraph
from ..graph.source import SOURCE_FILE, SourceGraph
from ..host import fingerprint
from ..offline import OfflineModel
from ..spec import ModelSpec, Precision, Preprocess
from .session import Session, SessionOptions

INPUT_DTYPES = ("float32", "uint8")
Taps = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # a graph's inputs by name to all its outputs by name
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
