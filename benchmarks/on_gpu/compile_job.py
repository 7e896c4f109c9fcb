"""Compiles one thing, in a process of its own: `python -m on_gpu.compile_job REQUEST`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from . import ours
from .compiling import Job, Place
from .contestants import DTYPES, batch_of, compiled, load_network, prepared, set_arithmetic


def main(request: str) -> None:
    """Compile, and leave a JSON file that says so."""
    document = json.loads(request)
    job, place = Job(**document["job"]), Place(**document["place"])
    directory = Path(place.directory)
    network = load_network(str(directory / "weights.pt"), small=place.small)
    set_arithmetic(place.dtype)
    start = time.monotonic()
    make = ours.build if job.kind == "package" else _fill_cache
    facts = make(network, job, place, directory / f"{job.file}.pt2")
    done = directory / f"{job.file}.json"
    temporary = done.with_suffix(".tmp")
    temporary.write_text(json.dumps(facts | {"compile_s": time.monotonic() - start}))
    os.replace(temporary, done)


def _fill_cache(network: torch.nn.Module, job: Job, place: Place, _: Path) -> dict:
    """torch.compile keeps what it made on disk, where the measuring process finds it."""
    dtype = DTYPES[place.dtype]
    pixels = torch.randint(0, 256, (job.batch, place.size, place.size, 3), dtype=torch.uint8, device=place.device)
    run = compiled(prepared(network, place.device, dtype, channels_last=job.channels_last), tuned=job.tuned)
    run(batch_of(pixels, dtype, channels_last=job.channels_last))
    if place.device != "cpu":
        torch.cuda.synchronize()
    return {}


if __name__ == "__main__":
    main(sys.argv[1])
