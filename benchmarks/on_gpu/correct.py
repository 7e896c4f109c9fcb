"""Whether the scores are right: held against float32, on photos drawn afresh."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .network import normalised
from .photos import Photos


@dataclass(frozen=True, slots=True)
class Check:
    """How far scores are from float32's.

    Attributes:
        error: norm of the difference ÷ norm of the reference; NaN where a score is not finite.
        same: share of images whose highest score is the same class's.
        images: how many.
    """

    error: float
    same: float
    images: int

    def told(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def compare(scores: Tensor, expected: Tensor) -> Check:
    """Hold scores against a reference."""
    scores, expected = scores.double().cpu(), expected.double().cpu()
    error = float((scores - expected).norm() / expected.norm())
    same = float((scores.argmax(1) == expected.argmax(1)).double().mean())
    return Check(error=error, same=same, images=len(expected))


@contextmanager
def exact_float32() -> Iterator[None]:
    """Float32 products as float32, not as TF32."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def float32_on(device: str, network: nn.Module, *, at_once: int = 64) -> Callable[[Tensor], Tensor]:
    """The reference: pixels to float32 scores, computed in plain PyTorch on the device, a few images at a time."""
    from copy import deepcopy

    held = deepcopy(network).to(device)

    def scores(pixels: Tensor) -> Tensor:
        with exact_float32():
            return torch.cat([held(normalised(part.to(device))).float() for part in pixels.split(at_once)])

    return scores


def decisions(runner: Any, photos: Photos, reference: Callable[[Tensor], Tensor], batches: int) -> dict[str, Any]:
    """A runner's scores and decisions on photos drawn afresh, against the reference, and how often they name the class that the
    photo was made of."""
    batch = runner.facts.shape[0]
    found, expected, classes = [], [], []
    for _ in range(batches):
        pixels, made_of = photos(batch)
        found.append(torch.from_numpy(runner.run(pixels.cpu().numpy())))
        expected.append(reference(pixels).cpu())
        classes.append(made_of.cpu())
    scores, truth = torch.cat(found), torch.cat(classes)
    top = torch.cat(expected).topk(2).values
    return compare(scores, torch.cat(expected)).told() | {
        "right": float((scores.argmax(1) == truth).double().mean()),
        "classes_decided_for": int(scores.argmax(1).unique().numel()),
        "median_margin": float((top[:, 0] - top[:, 1]).median()),
    }
