"""What PyTorch raises, said in one line with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import CompileError, EngineUnavailableError, InferenceError, ModelportError

_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED", re.IGNORECASE)
# What the message holds, what to say instead; the first that fits. All are the machine's lack and not the model's.
_LACKS = (
    (
        r"driver on your system is too old|driver version is insufficient",
        "NVIDIA's driver is too old for the CUDA {cuda} of this PyTorch ({said}); update the driver, or install a PyTorch for an "
        "older CUDA",
    ),
    (
        r"Found no NVIDIA driver|no CUDA-capable device|No CUDA GPUs are available|not compiled with CUDA",
        "there is no GPU here that PyTorch can use ({said}); compile with --device cpu, or install NVIDIA's driver and a PyTorch "
        "with CUDA",
    ),
    (
        r"no kernel image is available",
        "this PyTorch holds no code for this GPU ({said}); install a PyTorch that supports its architecture",
    ),
    (r"[Ii]nvalid device (?:ordinal|id)", "there is no GPU of that number ({said}); `nvidia-smi -L` lists them"),
    (
        r"too old to be supported by the triton",
        "this GPU is too old for Triton, which makes its code ({said}); use a GPU of compute capability 7.0 or later",
    ),
    (
        r"working triton installation|No module named 'triton",
        "Triton, which makes code for GPUs, is not installed: pip install triton",
    ),
    (
        r"No working C\+\+ compiler|Compiler: \S+ is not found|No such file or directory: '(?:g\+\+|gcc|c\+\+|clang\+\+)'",
        "AOTInductor needs a C++ compiler and finds none: install g++ (on Debian and Ubuntu: apt-get install g++), or name one "
        "in the environment variable CXX",
    ),
    (
        r"fatal error: Python\.h|fatal error: (?:omp|crtdefs|stdio)\.h",
        "the C++ compiler lacks headers ({said}); install its development files (on Debian and Ubuntu: apt-get install g++ "
        "python3-dev)",
    ),
    (
        r"fatal error: cuda\w*\.h|cannot find -lcuda|CUDA_HOME environment variable is not set",
        "AOTInductor does not find CUDA's headers or libraries ({said}); install the CUDA toolkit, or set CUDA_HOME to it",
    ),
)
_LINE = 300


def translate(error: BaseException, what: str, kind: type[ModelportError] = InferenceError) -> ModelportError:
    """The error of ours that says what an exception of PyTorch's means; raise it `from error`.

    Args:
        error: what PyTorch raised; compilers' errors come wrapped, and the innermost tells.
        what: failed, such as `PyTorch AOTInductor cannot compile cspresnext50`.
        kind: where it is neither the machine's lack nor ours already.
    """
    if isinstance(error, ModelportError):
        return error
    text = _text(error)
    if is_out_of_memory(error):
        return kind(
            f"{what}: out of memory ({_telling(text)}); take a smaller batch size, or end what else uses the memory"
        )
    for pattern, message in _LACKS:
        if re.search(pattern, text):
            return EngineUnavailableError(f"{what}: {message.format(said=_telling(text, pattern), cuda=_cuda())}")
    return kind(f"{what}: {_telling(text)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had too little memory."""
    return isinstance(error, MemoryError) or bool(isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)))


def largest_that_fits(fits: Callable[[int], bool], failed: int) -> int:
    """The largest batch size below one that was too large, found by trying; 0 where not even 1 fits.

    Args:
        fits: tries one. It may try about 2 log2(failed) of them.
        failed: the size that does not fit.
    """
    good, bad = failed // 2, failed
    while good > 0 and not fits(good):
        good, bad = good // 2, good
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def out_of_memory(what: str, batch: int, fitting: int | None) -> CompileError:
    """The error to raise where a batch is too large, with the largest that is not: 0 for none, None where it is not known."""
    hint = f"the largest batch that fits is {fitting}" if fitting else "not even batch 1 fits: another device is needed"
    if fitting is None:
        hint = "compile it for a smaller one"
    return CompileError(f"{what}: batch {batch} does not fit into the device's memory; {hint}")


def _text(error: BaseException) -> str:
    """All messages of an exception and of what it wraps."""
    texts, seen = [], set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        texts.append(
            f"{type(current).__name__}: {current}" if isinstance(current, ImportError | OSError) else str(current)
        )
        current = getattr(current, "inner_exception", None) or current.__cause__ or current.__context__
    return "\n".join(texts)


def _telling(text: str, pattern: str | None = None) -> str:
    """The line that tells most: the one with the pattern, a compiler's first error, or the first of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    for wanted in (pattern, r"\b(?:fatal )?error: "):
        if wanted and (line := next((line for line in lines if re.search(wanted, line)), None)):
            return line[:_LINE]
    return lines[0][:_LINE]


def _cuda() -> str:
    try:
        import torch
    except ImportError:
        return ""
    return torch.version.cuda or ""
