"""The peers: PyTorch eager and torch.compile, in both memory layouts. What they run is what a user would write."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from .network import CSPRESNEXT50, SMALL, CspResNeXt, normalised

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}


def set_arithmetic(dtype: str) -> None:
    """What holds for everybody: convolutions chosen by timing, and float32 that is float32 and not TF32 where that is asked for."""
    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = True
    if dtype == "f32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def load_network(weights: str, *, small: bool) -> CspResNeXt:
    """The network from its file of weights, float32 on the processor, in evaluation mode."""
    network = CspResNeXt(SMALL if small else CSPRESNEXT50)
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    return network.eval()


def prepared(network: nn.Module, device: str, dtype: torch.dtype, *, channels_last: bool) -> nn.Module:
    """A copy on the device, in a precision and a layout."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return deepcopy(network).to(device=device, dtype=dtype).to(memory_format=layout).eval()


def batch_of(pixels: Tensor, dtype: torch.dtype, *, channels_last: bool) -> Tensor:
    """What a network takes of uint8 N x height x width x 3, in a layout."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return normalised(pixels, dtype).contiguous(memory_format=layout)


def compiled(network: nn.Module, *, tuned: bool) -> Callable[[Tensor], Tensor]:
    """torch.compile as it is, for one batch size at a time."""
    return torch.compile(network, mode="max-autotune" if tuned else "default", dynamic=False)
