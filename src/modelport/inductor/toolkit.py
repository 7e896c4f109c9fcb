"""What AOTInductor's compilers need around them: a cache of their own, and CUDA where no toolkit is installed.

PyTorch's wheels bring CUDA's headers and libraries along, but AOTInductor looks for them in a toolkit; and it links against
`libcuda.so`, of which a driver without development files has only `libcuda.so.1`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_DRIVER = "libcuda.so.1"
_DRIVER_PLACES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
)


@contextmanager
def build_environment(device: str) -> Iterator[None]:
    """Environment variables for a build on this device.

    The cache is a fresh directory unless TORCHINDUCTOR_CACHE_DIR names one: by default PyTorch's lies at a place in /tmp that
    anyone can guess, and code is loaded from it.
    """
    with tempfile.TemporaryDirectory(prefix="modelport-inductor-", ignore_cleanup_errors=True) as folder:
        values = {} if os.environ.get(CACHE_VARIABLE) else {CACHE_VARIABLE: folder}
        if device == "cuda":
            values |= _cuda_variables(Path(folder))
        with _environment(values):
            yield


def bundled_toolkit() -> Path | None:
    """The folder with `include/cuda.h` among the packages that PyTorch's wheel depends on; None where there is none."""
    import torch

    packages = Path(torch.__file__).parent.parent / "nvidia"
    major = (torch.version.cuda or "").partition(".")[0]
    for place in (packages / f"cu{major}", packages / "cuda_runtime"):
        if (place / "include" / "cuda.h").is_file():
            return place
    return None


def _cuda_variables(folder: Path) -> dict[str, str]:
    from torch.utils import cpp_extension

    values = {}
    if not cpp_extension.CUDA_HOME and (home := bundled_toolkit()):
        values["CUDA_HOME"] = cpp_extension.CUDA_HOME = str(home)  # it has looked already
    places = [*os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep), *_DRIVER_PLACES]
    driver = next((Path(place) / _DRIVER for place in places if place and (Path(place) / _DRIVER).exists()), None)
    if driver is not None:
        link = folder / "driver"
        link.mkdir()
        (link / "libcuda.so").symlink_to(driver)
        values["LIBRARY_PATH"] = os.pathsep.join(filter(None, [os.environ.get("LIBRARY_PATH"), str(link)]))
    return values


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and afterwards set them as they were."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
