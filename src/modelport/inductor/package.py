"""Building a package: network → `torch.export` → normalisation folded → AOTInductor → one `.pt2` file."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from ..errors import CompileError, EngineUnavailableError
from .facts import METADATA_KEY, PackageFacts, gpu_facts
from .failures import is_out_of_memory, largest_that_fits, out_of_memory, translate
from .toolkit import build_environment

OLDEST_TORCH = (2, 8)
DEVICES = ("cpu", "cuda")
DTYPES = ("float32", "float16", "bfloat16")
_flags = Lock()  # PyTorch's switches for TF32 are one set for the process


@dataclass(frozen=True, kw_only=True, slots=True)
class Pixels:
    """How a package that takes uint8 pixels normalises them: `(pixel / 255 - mean) / std`, in float32.

    Attributes:
        mean, std: per channel, in the network's order of channels.
        reverse: whether the network takes the channels in the opposite order of the pixels, as BGR does of RGB.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    reverse: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageOptions:
    """What to build.

    Attributes:
        device: cpu or cuda; the package runs on GPUs of the architecture that it was built on.
        dtype: float32, float16 or bfloat16, of the whole network. Input and scores stay float32.
        pixels: take uint8 N x height x width x channels; None takes normalised float32 N x channels x height x width.
        channels_last: keep images channels-last in memory, which convolutions in half precision prefer.
        freezing: treat weights as constants, so that the compiler may lay them out anew.
        max_autotune: time several kernels for each matrix product and keep the fastest; takes minutes.
        coordinate_descent: time variants of the generated kernels.
        tf32: let float32 products round their inputs to TF32, as GPUs' matrix units do; never without being asked.
        profile: have kernels announce their names, so that PyTorch's profiler sees them on the CPU.
    """

    device: str = "cpu"
    dtype: str = "float32"
    pixels: Pixels | None = None
    channels_last: bool = True
    freezing: bool = True
    max_autotune: bool = False
    coordinate_descent: bool = False
    tf32: bool = False
    profile: bool = False

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ValueError(f"device must be {' or '.join(DEVICES)}, got {self.device!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")

    @property
    def settings(self) -> dict[str, bool]:
        """The choices of which one may be faster than another, by name."""
        names = ("channels_last", "freezing", "max_autotune", "coordinate_descent")
        return {name: getattr(self, name) for name in names}


def build_package(
    network: Any,
    shape: tuple[int, int, int, int],
    path: Path | str,
    options: PackageOptions | None = None,
    name: str | None = None,
) -> PackageFacts:
    """Compile a classifier into one file.

    Args:
        network: a `torch.nn.Module` that takes float32 N x channels x height x width and answers N x classes; or one that
            `torch.export` has exported, in evaluation mode and for this shape. It is left as it is.
        shape: of the network's input: batch, channels, height, width; fixed in the package.
        path: file to write, ending in `.pt2`.
        options: device, arithmetic, and what the compiler may try.
        name: of the network, in errors.

    Returns:
        What was compiled; the package carries it.

    Raises:
        EngineUnavailableError: the device, a compiler, or a library is missing or too old.
        CompileError: PyTorch cannot export or compile the network, or its batch does not fit into the device's memory.
    """
    options = options or PackageOptions()
    require_device(options.device)
    require_arithmetic(options)
    what = f"PyTorch AOTInductor cannot compile {name or type(network).__name__}"
    try:
        with _quiet(), build_environment(options.device), tf32(options.tf32):
            facts = _build(network, shape, Path(path), options)
        if options.device == "cuda":
            _run_once(Path(path))
    except Exception as error:  # compilers raise what they like
        if options.device == "cuda" and _is_memory(error):
            raise out_of_memory(what, shape[0], _largest(network, shape, options)) from error
        raise translate(error, what, CompileError) from error
    return facts


def require_device(device: str, index: int = 0) -> None:
    """Raise EngineUnavailableError where PyTorch is too old, or has no such device."""
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise EngineUnavailableError(
            f"AOTInductor packages need PyTorch {oldest} or later, here is {torch.__version__}"
        )
    if device != "cuda":
        return
    try:
        torch.cuda.init()
        torch.cuda.get_device_properties(index)
    except (RuntimeError, AssertionError) as error:
        raise translate(error, f"PyTorch cannot use CUDA device {index}", EngineUnavailableError) from error


def require_arithmetic(options: PackageOptions) -> None:
    """Raise CompileError where the device computes in another precision than the one asked for, or far slower."""
    import torch

    if options.device == "cuda":
        if options.dtype == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise CompileError("this GPU has no bf16 arithmetic; compile with --precision fp16 or f32")
        return
    supported = {
        "bfloat16": ("bf16", torch.ops.mkldnn._is_mkldnn_bf16_supported),
        "float16": ("fp16", torch.ops.mkldnn._is_mkldnn_fp16_supported),
    }
    if options.dtype in supported:
        name, asks = supported[options.dtype]
        if not asks():
            raise CompileError(f"PyTorch has no {name} convolutions for this CPU; compile with --precision f32")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 meanwhile, in matrix products and in convolutions, where PyTorch allows it by default."""
    import torch

    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    with _flags:
        before = [switch.allow_tf32 for switch in switches]
        for switch in switches:
            switch.allow_tf32 = allowed
        try:
            yield
        finally:
            for switch, value in zip(switches, before, strict=True):
                switch.allow_tf32 = value


def _build(network: Any, shape: tuple[int, int, int, int], path: Path, options: PackageOptions) -> PackageFacts:
    import torch

    from .program import DeviceProgram, folded

    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    with torch.no_grad():
        graph, count = folded(network, shape)
        program = DeviceProgram(graph, shape, dtype, options).to(device)
        exported = torch.export.export(program, (program.example(device),), strict=False)
        facts = PackageFacts(
            torch=torch.__version__,
            device=options.device,
            dtype=_executed(exported, options.dtype),
            shape=program.input_shape,
            pixels=options.pixels is not None,
            tf32=options.tf32 and options.device == "cuda",
            folded=count,
            gpu=gpu_facts() if options.device == "cuda" else None,
            settings=options.settings,
        )
        del graph, program
        torch._inductor.aoti_compile_and_package(
            exported, package_path=str(path), inductor_configs=_configuration(options, facts)
        )
    return facts


def _configuration(options: PackageOptions, facts: PackageFacts) -> dict[str, Any]:
    """AOTInductor's own names for the options."""
    return {
        "freezing": options.freezing,
        "max_autotune": options.max_autotune,
        "coordinate_descent_tuning": options.coordinate_descent,
        "aot_inductor.metadata": {METADATA_KEY: facts.text()},
        "cpp.dynamic_threads": True,  # as many as there are when it runs, not when it was compiled
        "cpp.enable_kernel_profile": options.profile,
    }


def _executed(exported: Any, asked: str) -> str:
    """The data type of most of the program's convolutions and matrix products; what was asked for where it has none."""
    import torch

    aten = torch.ops.aten
    heavy = {
        *(
            aten.conv1d,
            aten.conv2d,
            aten.conv3d,
            aten.convolution,
            aten.linear,
            aten.matmul,
            aten.mm,
            aten.addmm,
            aten.bmm,
        ),
        aten.scaled_dot_product_attention,
    }
    found = Counter(
        str(node.meta["val"].dtype).removeprefix("torch.")
        for node in exported.graph.nodes
        if getattr(node.target, "overloadpacket", None) in heavy
    )
    return found.most_common(1)[0][0] if found else asked


def _run_once(path: Path) -> None:
    """Opening it runs it: a package that does not fit into the memory is no package."""
    from .runner import RunnerOptions, open_runner

    open_runner(path, RunnerOptions(buffers=1, cuda_graph=False, warmup=1)).close()


def _is_memory(error: BaseException | None) -> bool:
    """Whether this, or what it was made from, is a lack of memory."""
    while error is not None:
        if is_out_of_memory(error):
            return True
        error = getattr(error, "inner_exception", None) or error.__cause__
    return False


def _largest(network: Any, shape: tuple[int, int, int, int], options: PackageOptions) -> int | None:
    """The largest batch that PyTorch itself can run, which takes about the memory that a package takes; None where the
    network's program cannot be run at another batch size."""
    import torch

    from .program import DeviceProgram, folded

    device = torch.device(options.device)

    def fits(batch: int) -> bool:
        try:
            with torch.no_grad():
                graph, _ = folded(network, shape)
                program = DeviceProgram(graph, (batch, *shape[1:]), getattr(torch, options.dtype), options).to(device)
                program(program.example(device))
                torch.cuda.synchronize()
        except RuntimeError as error:
            if _is_memory(error):
                return False
            raise
        finally:
            torch.cuda.empty_cache()
        return True

    try:
        return largest_that_fits(fits, shape[0])
    except Exception:  # whatever a program says that is given another shape than it was exported for
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Third parties' notices to each other while they compile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
