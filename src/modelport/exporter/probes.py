"""Tiny networks as PyTorch programs, for engines that compile those: to see what runs on a machine, and how fast at most."""

from __future__ import annotations

from pathlib import Path

from ..errors import EngineUnavailableError
from .program import save_program


def save_probe(path: Path, shape: tuple[int, int, int, int]) -> None:
    """A classifier of 4 classes with random weights: convolution, global pooling, matrix product.

    Raises:
        EngineUnavailableError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise EngineUnavailableError(
            f"PyTorch is not installed ({error}): pip install 'modelport[inductor]'"
        ) from error

    network = torch.nn.Sequential(
        torch.nn.Conv2d(shape[1], 16, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 4),
    )
    save_program(network, shape, path)


def save_products(path: Path, shape: tuple[int, int, int, int], *, width: int, count: int) -> None:
    """Nothing but square matrix products in a row, on the image's values as rows of this width."""
    import torch

    class Products(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            values = [torch.randn(width, width) / width**0.5 for _ in range(count)]
            self.weights = torch.nn.ParameterList(values)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            rows = images.reshape(-1, width)
            for weight in self.weights:
                rows = rows @ weight
            return rows.reshape(images.shape[0], -1)

    save_program(Products(), shape, path)
