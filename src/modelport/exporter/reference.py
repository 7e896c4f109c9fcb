"""The source itself as a session: PyTorch runs the same images through the same pipeline, so decisions can be paired."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engines.session import Session
from ..offline import TensorSpec
from ..results import Target
from ..spec import ModelSpec, Precision
from .export import INPUT, OUTPUT


class TorchSession(Session):
    """A PyTorch network in float32 on the CPU, behind the interface of every other session."""

    def __init__(self, network: Any, spec: ModelSpec, batch_size: int) -> None:
        image = TensorSpec(name=INPUT, dtype="float32", shape=(batch_size, *spec.preprocess.input_size), layout="NCHW")
        scores = TensorSpec(name=OUTPUT, dtype="float32", shape=(batch_size, spec.num_classes), layout="NC")
        super().__init__(f"PyTorch {spec.arch}", (image, scores), 1)
        self._network = network

    @property
    def target(self) -> Target:
        """What runs, for results."""
        import torch

        return Target(
            engine="pytorch",
            engine_version=torch.__version__,
            precision=Precision.F32,
            executed_precision=Precision.F32,
            batch_size=self.batch_size,
        )

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self._network(torch.from_numpy(np.require(batch, requirements=["C", "W"]))).numpy()
