"""A package on the processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .facts import PackageFacts
from .runner import Runner, RunnerOptions, Ticket, load_kernels


class CpuRunner(Runner):
    """Computes as it is submitted, in the calling thread and the cores that it gets."""

    def __init__(self, path: Path, facts: PackageFacts, options: RunnerOptions) -> None:
        super().__init__(path, facts)
        self._threads = options.threads
        self._model = load_kernels(path, at_once=options.buffers)
        self._resident = torch.zeros(facts.shape, dtype=torch.uint8 if facts.pixels else torch.float32)
        for _ in range(options.warmup):
            scores = self._compute(self._resident)
        self.output_shape = tuple(scores.shape)

    def _compute(self, images: torch.Tensor) -> torch.Tensor:
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)  # of the calling thread
        with torch.inference_mode():
            return self._model(images)

    def _submit(self, batch: np.ndarray) -> Ticket:
        return Ticket(self._compute(torch.from_numpy(np.require(batch, requirements=["C", "W"]))))

    def _wait(self, ticket: Ticket) -> np.ndarray:
        return ticket.place.numpy()

    def load(self, images: torch.Tensor) -> None:
        self._resident.copy_(images)

    def replay(self) -> None:
        self._compute(self._resident)

    def synchronize(self) -> None:
        """Nothing is left undone on a processor."""

    def close(self) -> None:
        self._model = None
