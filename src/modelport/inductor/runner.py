"""Running a package: one batch at a time, or several on their way.

A `.pt2` holds native code, which runs as soon as it is opened: open only what you trust as you trust a program.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import EngineUnavailableError, InferenceError
from .facts import PackageFacts, gpu_facts
from .failures import translate
from .package import require_device


@dataclass(frozen=True, kw_only=True, slots=True)
class RunnerOptions:
    """How to run a package.

    Attributes:
        index: number of the GPU.
        buffers: batches on their way at once. On a GPU two let the copies of one batch overlap the computing of another; on
            the CPU they compute side by side.
        cuda_graph: record the kernels once and launch them together, which saves the time of launching each; GPU only.
        benchmark: let cuDNN time its algorithms for each convolution while warming up; GPU only.
        timing: keep the times of copying and computing in each ticket; GPU only.
        threads: cores of each batch on the CPU; None leaves PyTorch's choice.
        warmup: batches that are run before it is ready, at least 1.
    """

    index: int = 0
    buffers: int = 2
    cuda_graph: bool = True
    benchmark: bool = True
    timing: bool = False
    threads: int | None = None
    warmup: int = 3

    def __post_init__(self) -> None:
        if self.buffers < 1 or self.warmup < 1:
            raise ValueError(f"buffers and warmup must be at least 1, got {self.buffers} and {self.warmup}")


@dataclass(frozen=True, slots=True)
class Times:
    """Of one batch on a GPU, milliseconds by the device's own events: copying in, computing, copying out."""

    to_device_ms: float
    compute_ms: float
    to_host_ms: float


@dataclass(slots=True)
class Ticket:
    """A batch on its way; `wait` on it once.

    Attributes:
        place: the runner's own.
        times: after waiting, where the runner keeps them.
    """

    place: Any
    times: Times | None = None


class Runner(ABC):
    """An opened package: exists means ready. Close it, or use it as a context manager.

    Up to `buffers` threads may each submit a batch and wait for it.

    Attributes:
        facts: what the package says of itself.
        output_shape: batch x classes.
    """

    output_shape: tuple[int, int]

    def __init__(self, path: Path, facts: PackageFacts) -> None:
        self.path, self.facts = path, facts
        self._dtype = np.dtype(np.uint8 if facts.pixels else np.float32)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Run one batch to its end.

        Args:
            batch: of the shape and type in `facts`.

        Returns:
            Scores, float32, batch x classes; the caller's own.

        Raises:
            InferenceError: the batch does not fit, or PyTorch failed.
        """
        return self.wait(self.submit(batch))

    def submit(self, batch: np.ndarray) -> Ticket:
        """Send a batch on its way; the array may be used again at once.

        Raises:
            InferenceError: as `run`; or as many batches as there are buffers are on their way already.
        """
        if batch.shape != self.facts.shape or batch.dtype != self._dtype:
            raise InferenceError(
                f"{self.path}: got {batch.dtype} {_show(batch.shape)}, expected {self._dtype} {_show(self.facts.shape)}"
            )
        try:
            return self._submit(batch)
        except RuntimeError as error:
            raise translate(error, f"{self.path}: PyTorch AOTInductor failed") from error

    def wait(self, ticket: Ticket) -> np.ndarray:
        """The scores of a batch that was submitted."""
        try:
            return self._wait(ticket)
        except RuntimeError as error:
            raise translate(error, f"{self.path}: PyTorch AOTInductor failed") from error

    @abstractmethod
    def load(self, images: Any) -> None:
        """Put a batch where `replay` finds it: a tensor in the device's own memory, complete, such as a decoder on the GPU makes."""

    @abstractmethod
    def replay(self) -> None:
        """Compute once on what lies in the device's memory, without copying; on a GPU this returns before it is done."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has done everything."""

    @abstractmethod
    def _submit(self, batch: np.ndarray) -> Ticket: ...

    @abstractmethod
    def _wait(self, ticket: Ticket) -> np.ndarray: ...

    @abstractmethod
    def close(self) -> None:
        """Give memory back. Calling it twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_runner(path: Path | str, options: RunnerOptions | None = None) -> Runner:
    """Open a package on the device that it was built for, and warm it up.

    Raises:
        EngineUnavailableError: the device is not there, is of another architecture, or PyTorch is another version.
        InferenceError: it is no package, or PyTorch cannot load or run it.
    """
    import torch

    from .cpu import CpuRunner
    from .cuda import CudaRunner

    options, path = options or RunnerOptions(), Path(path)
    try:
        facts = PackageFacts.read(path)
    except ValueError as error:
        raise InferenceError(f"{path}: {error}") from error
    require_device(facts.device, options.index)
    if facts.torch != torch.__version__:
        raise EngineUnavailableError(
            f"{path}: was compiled with PyTorch {facts.torch}, installed is {torch.__version__}; compile it again"
        )
    if facts.device == "cuda":
        require_architecture(path, facts, options.index)
    try:
        return (CudaRunner if facts.device == "cuda" else CpuRunner)(path, facts, options)
    except RuntimeError as error:
        raise translate(error, f"{path}: PyTorch AOTInductor cannot open it") from error


def load_kernels(
    path: Path, *, single_threaded: bool = False, at_once: int = 1, index: int = -1
) -> Callable[[Any], Any]:
    """The package as a function of one tensor, by PyTorch's own loader.

    `torch._inductor.aoti_load_package` wraps the same loader, after importing the whole compiler, which takes a second.

    Args:
        path: a `.pt2` with one input and one output.
        single_threaded: without bookkeeping between threads, which a CUDA graph could not record.
        at_once: instances, which share the weights; a call takes a free one or waits.
        index: number of the GPU; -1 on the CPU.
    """
    import torch

    loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", single_threaded, at_once, index)

    def run(images: Any) -> Any:
        return loader.boxed_run([images])[0]

    return run


def require_architecture(path: Path, facts: PackageFacts, index: int) -> None:
    """Raise EngineUnavailableError where the GPU is not of the architecture that the package holds code for."""
    here = gpu_facts(index)
    if facts.gpu is None or here.architecture != facts.gpu.architecture:
        built = f"{facts.gpu.architecture} ({facts.gpu.name})" if facts.gpu else "an unknown GPU"
        raise EngineUnavailableError(
            f"{path}: holds code for {built}, GPU {index} is {here.architecture} ({here.name}); compile it there"
        )


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
