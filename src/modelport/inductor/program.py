"""The network as it runs on the device: input brought into form, half precision inside, float32 scores."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from .fold import fold_normalization

if TYPE_CHECKING:
    from .package import PackageOptions


def folded(
    network: torch.nn.Module | torch.export.ExportedProgram, shape: tuple[int, int, int, int]
) -> tuple[torch.fx.GraphModule, int]:
    """A network's graph, exported on the CPU in float32, with its normalisations folded; and how many of them are gone."""
    if isinstance(network, torch.export.ExportedProgram):
        graph = copy.deepcopy(network.module())  # the module shares the program's weights
    else:
        plain = copy.deepcopy(network).eval().cpu().float()
        graph = torch.export.export(plain, (torch.zeros(shape),), strict=False).module()
    assert isinstance(graph, torch.fx.GraphModule)
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":  # the shape is checked by the package itself
            graph.graph.erase_node(node)
    return graph, fold_normalization(graph)


class DeviceProgram(torch.nn.Module):
    """What is compiled: pixels or normalised images in, float32 scores out."""

    def __init__(
        self,
        network: torch.fx.GraphModule,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        options: PackageOptions,
    ) -> None:
        """`network` is taken over; `shape` is that of its input: batch, channels, height, width."""
        super().__init__()
        self.network = network.to(dtype)
        self._format = torch.channels_last if options.channels_last else torch.contiguous_format
        self.network.to(memory_format=self._format)
        self._dtype, self._pixels = dtype, options.pixels
        batch, channels, height, width = shape
        self.input_shape = (batch, height, width, channels) if options.pixels else shape
        if options.pixels is not None:
            mean, std = (
                torch.tensor(values, dtype=torch.float64) for values in (options.pixels.mean, options.pixels.std)
            )
            self.register_buffer("mean", (mean * 255).float().reshape(1, -1, 1, 1))
            self.register_buffer("scale", (1 / (std * 255)).float().reshape(1, -1, 1, 1))

    def example(self, device: torch.device) -> torch.Tensor:
        """An input of the right shape and type."""
        return torch.zeros(self.input_shape, dtype=torch.uint8 if self._pixels else torch.float32, device=device)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self._pixels is not None:
            images = images.permute(0, 3, 1, 2)
            if self._pixels.reverse:
                images = images.flip(1)
            images = (images.float() - self.mean) * self.scale
        return self.network(images.to(self._dtype).contiguous(memory_format=self._format)).float()
