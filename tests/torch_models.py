"""Tiny PyTorch classifiers for engines that compile those: the one of `models`, and one with what real networks have."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import models

_folder = tempfile.TemporaryDirectory(prefix="modelport-programs-")  # until the tests are over


def tiny_network() -> Any:
    """The classifier of `models.expected_scores`, with the same weights."""
    import torch

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, models.CLASSES),
    )
    network.load_state_dict(
        {
            "0.weight": torch.from_numpy(models.KERNEL.copy()),
            "0.bias": torch.from_numpy(models.BIAS.copy()),
            "4.weight": torch.from_numpy(models.WEIGHT.copy()),
            "4.bias": torch.from_numpy(models.OFFSET.copy()),
        }
    )
    return network.eval()


@cache
def tiny_program(batch_size: int) -> Path:
    """The tiny classifier as an exported program. Not to be written to."""
    from modelport.exporter.program import save_program

    path = Path(_folder.name) / f"tiny-{batch_size}.pt2"
    save_program(tiny_network(), (batch_size, *models.SIZE), path)
    return path


def normalised_network() -> Any:
    """Grouped convolutions, batch normalisation with statistics of its own, one of which no convolution precedes."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
            self.norm = torch.nn.BatchNorm2d(8)
            self.grouped = torch.nn.Conv2d(8, 8, 3, groups=2)
            self.norm2 = torch.nn.BatchNorm2d(8, affine=False)
            self.norm3 = torch.nn.BatchNorm2d(8)
            self.head = torch.nn.Linear(8, models.CLASSES)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            first = torch.relu(self.norm(self.first(images)))
            second = torch.nn.functional.leaky_relu(self.norm2(self.grouped(first)), 0.1)
            return self.head(self.norm3(second).mean((2, 3)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Network()
        for norm in (network.norm, network.norm2, network.norm3):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            if norm.affine:
                torch.nn.init.normal_(norm.weight)
                torch.nn.init.normal_(norm.bias)
    return network.eval()
