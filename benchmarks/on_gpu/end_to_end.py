"""End to end from JPEG files in memory and from pixels on disk: each way with what its parts can do alone, and what limits it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from . import feeding, nvjpeg, ours
from .record import Record

_SLOTS = 6
WAYS = ("JPEG, decoded on the processor", "JPEG, decoded on the GPU", "pixels from shards")


class EndToEnd:
    """The same package, fed in three ways."""

    def __init__(  # noqa: PLR0913
        self, record: Record, package: Path, files: list[bytes], *, size: int, pure: float, seconds: float
    ):
        """`pure` is what the package reaches on what lies in the device's memory, images a second."""
        self._record, self._package, self._files, self._size = record, package, files, size
        self._pure, self._seconds = pure, seconds
        self.told: dict[str, dict[str, Any]] = {}

    def all_ways(self, pixels: Tensor, directory: Path, *, device: str, batch: int) -> None:
        """Every way that there is time for; `pixels` are those of the shards.

        Workers leave a core to the thread that feeds, where there are several.
        """
        workers = max(1, len(os.sched_getaffinity(0)) - 1)
        with feeding.shared_slots(_SLOTS, batch, self._size) as (name, slots):
            with ours.opened(self._package, buffers=ours.BUFFERS) as runner:
                self._step(WAYS[0], lambda: self._processor(runner, name, slots, workers))
                self._step(
                    WAYS[2], lambda: self._shards(runner, slots, pixels.cpu().numpy(), directory, min(4, workers))
                )
        with ours.opened(self._package) as runner:
            self._step(WAYS[1], lambda: self._gpu(runner, device, batch))

    def _step(self, way: str, measure: Any) -> None:
        if self._record.left < 3 * self._seconds:
            self._record.drop(f"end to end, {way}")
            return
        with self._record.step(f"end to end: {way}"):
            self.told[way] = measure()
            self._record.put("end_to_end", self.told)

    def _processor(self, runner: Any, name: str | None, slots: np.ndarray, workers: int) -> dict[str, Any]:
        alone, fed = {}, {}
        if name is None:
            self._record.drop("decoding in processes", "too little shared memory")
        for kind in ("processes", "threads") if name else ("threads",):
            with feeding.decoders(kind, self._files, name, slots, workers) as begin:
                alone[kind] = feeding.only_fill(begin, slots, self._seconds / 2)
                if alone[kind] == max(alone.values()):
                    fed = feeding.feed(runner, begin, slots, buffers=ours.BUFFERS, seconds=self._seconds)
        best = max(alone, key=lambda kind: alone[kind])
        return self._judged(fed, max(alone.values())) | {"decoding_alone": alone, "decoders": f"{workers} {best}"}

    def _shards(
        self, runner: Any, slots: np.ndarray, pixels: np.ndarray, directory: Path, workers: int
    ) -> dict[str, Any]:
        shards = feeding.PixelShards(directory, pixels, 4, workers)
        try:
            begin = shards.begin_in(slots)
            alone = feeding.only_fill(begin, slots, self._seconds / 4)
            fed = feeding.feed(runner, begin, slots, buffers=ours.BUFFERS, seconds=self._seconds)
        finally:
            shards.close()
        return self._judged(fed, alone)

    def _gpu(self, runner: Any, device: str, batch: int) -> dict[str, Any]:
        decoder = nvjpeg.GpuDecoder(device, self._size)
        files = nvjpeg.as_tensors(self._files)
        chosen = [self._files[number % len(self._files)] for number in range(batch)]
        told = nvjpeg.differences(decoder, chosen, self._size, runner.run)
        alone = nvjpeg.only_decode(decoder, files, batch, self._seconds / 4)
        return self._judged(nvjpeg.feed(runner, decoder, files, seconds=self._seconds), alone) | {
            "against_pillow": told
        }

    def _judged(self, fed: dict[str, float], filling: float) -> dict[str, Any]:
        """With its limit, which is the slower of filling alone and computing alone, and who of them limits."""
        limit = min(self._pure, filling)
        return fed | {
            "filling_alone": filling,
            "pure": self._pure,
            "limit": limit,
            "of_limit": fed["images_per_s"] / limit,
            "limited_by": "filling" if filling < self._pure else "device",
        }
