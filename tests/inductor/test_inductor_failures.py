"""What PyTorch raises, as one line of ours: real exceptions of its own classes, with the texts that they have."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler  # noqa: E402

from modelport.errors import CompileError, EngineUnavailableError, InferenceError  # noqa: E402
from modelport.inductor.failures import is_out_of_memory, largest_that_fits, out_of_memory, translate  # noqa: E402

WHAT = "AOTInductor cannot compile x.onnx"


def raised(work) -> BaseException:
    """What this really raises."""
    try:
        work()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_memory_that_is_not_there_on_this_machine():
    error = raised(lambda: torch.empty(2**60, dtype=torch.uint8))

    assert is_out_of_memory(error)
    assert "out of memory" in str(translate(error, WHAT))
    assert "take a smaller batch size" in str(translate(error, WHAT))


def test_memory_of_a_gpu():
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB"
    )

    assert is_out_of_memory(error)
    assert isinstance(translate(error, WHAT, CompileError), CompileError)
    assert "Tried to allocate 20.00 GiB" in str(translate(error, WHAT))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError(
                "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver"
            ),
            r"NVIDIA's driver is too old for the CUDA .*of this PyTorch \(The NVIDIA driver on your system is too old \(found version "
            r"11040\).*\); update the driver, or install a PyTorch for an older CUDA",
        ),
        (
            RuntimeError("Found no NVIDIA driver on your system. Please check"),
            "no GPU here that PyTorch can use .*--device cpu",
        ),
        (AssertionError("Torch not compiled with CUDA enabled"), "no GPU here that PyTorch can use"),
        (
            torch.AcceleratorError("CUDA error: invalid device ordinal"),
            r"no GPU of that number .*`nvidia-smi -L` lists them",
        ),
        (
            torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
            "holds no code for this GPU .*supports its architecture",
        ),
        (InvalidCxxCompiler(), r"needs a C\+\+ compiler and finds none: install g\+\+"),
        (InductorError(InvalidCxxCompiler(), None), r"needs a C\+\+ compiler and finds none: install g\+\+"),
        (FileNotFoundError(2, "No such file or directory", "g++"), r"needs a C\+\+ compiler and finds none"),
        (
            CppCompileError(["g++", "x.cpp"], "x.cpp:1:10: fatal error: cuda.h: No such file or directory\n"),
            r"does not find CUDA's headers or libraries \(x\.cpp:1:10: fatal error: cuda\.h: .*\); install the CUDA toolkit",
        ),
        (OSError("CUDA_HOME environment variable is not set. Please set it"), "does not find CUDA's headers"),
        (ModuleNotFoundError("No module named 'triton'"), "Triton, .* is not installed: pip install triton"),
    ],
)
def test_what_the_machine_lacks_is_said_with_what_to_do(error, message):
    found = translate(error, WHAT, CompileError)

    assert isinstance(found, EngineUnavailableError)
    with pytest.raises(EngineUnavailableError, match=f"^{WHAT}: .*{message}"):
        raise found
    assert "\n" not in str(found)


def test_a_compilers_own_error_is_its_first_error_line():
    error = CppCompileError(
        ["g++"], "In file included from a.h:1:\nx.cpp:7:3: error: 'foo' was not declared in this scope\nmore"
    )

    found = translate(InductorError(error, None), WHAT, CompileError)

    assert str(found) == f"{WHAT}: x.cpp:7:3: error: 'foo' was not declared in this scope"


def test_anything_else_keeps_its_first_line_and_its_kind():
    assert str(translate(RuntimeError("something\nelse"), WHAT)) == f"{WHAT}: something"
    assert isinstance(translate(RuntimeError("something"), WHAT), InferenceError)
    ours = EngineUnavailableError("ours")
    assert translate(ours, WHAT) is ours


@pytest.mark.parametrize("limit", [0, 1, 5, 63, 64, 99])
def test_the_largest_batch_that_fits_is_found_by_trying(limit):
    tried = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= limit

    assert largest_that_fits(fits, 100) == limit
    assert len(tried) <= 14
    assert 100 not in tried


@pytest.mark.parametrize(
    ("fitting", "hint"),
    [(48, "the largest batch that fits is 48"), (0, "not even batch 1 fits"), (None, "compile it for a smaller one")],
)
def test_a_batch_that_is_too_large_names_the_one_that_is_not(fitting, hint):
    assert hint in str(out_of_memory(WHAT, 100, fitting))
    assert "batch 100 does not fit into the device's memory" in str(out_of_memory(WHAT, 100, fitting))
