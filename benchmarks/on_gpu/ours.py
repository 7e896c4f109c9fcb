"""The engine `inductor` of this repository, by the two calls that it has: build a package, open a runner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from modelport.inductor.package import PackageOptions, Pixels, build_package
from modelport.inductor.runner import RunnerOptions, open_runner

from .compiling import Job, Place
from .network import MEAN, STD

BUFFERS = 3  # batches on their way
_DTYPES = {"fp16": "float16", "bf16": "bfloat16", "f32": "float32"}


def build(network: nn.Module, job: Job, place: Place, path: Path) -> dict[str, Any]:
    """Compile a package that takes pixels; returns what it says of itself."""
    options = PackageOptions(
        device="cuda" if place.device.startswith("cuda") else "cpu",
        dtype=_DTYPES[place.dtype],
        pixels=Pixels(mean=MEAN, std=STD),
        channels_last=job.channels_last,
        max_autotune=job.tuned,
        coordinate_descent=job.tuned,
    )
    return asdict(build_package(network, (job.batch, 3, place.size, place.size), path, options))


@contextmanager
def opened(path: Path, *, buffers: int = 1, timing: bool = False) -> Iterator[Any]:
    """A runner for a while."""
    with open_runner(path, RunnerOptions(buffers=buffers, timing=timing)) as runner:
        yield runner
