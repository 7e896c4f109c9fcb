"""CSPResNeXt50 in plain PyTorch, with timm's parameter names; random weights whose decisions mean something.

`tests/benchmarks/test_gpu_network.py` proves it equal to timm's: the same state_dict, the same scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes one network of the family.

    Attributes:
        depth: blocks in each stage.
        channels: that each stage ends with.
        groups: of the 3x3 convolutions.
        stem: channels of the first convolution.
        classes: scores of an image.
    """

    depth: tuple[int, ...] = (3, 3, 5, 2)
    channels: tuple[int, ...] = (256, 512, 1024, 2048)
    groups: int = 32
    stem: int = 64
    classes: int = 1000


CSPRESNEXT50 = Shape()
SMALL = Shape(depth=(1,), channels=(32,), groups=4, stem=16, classes=10)  # for a smoke run


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, and LeakyReLU unless it is left out."""

    def __init__(  # noqa: PLR0913
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = True
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.LeakyReLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """ResNeXt's block, as wide inside as outside."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, 1)
        self.conv2 = ConvNormAct(channels, channels, 3, groups=groups)
        self.conv3 = ConvNormAct(channels, channels, 1, act=False)
        self.act3 = nn.LeakyReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act3(self.conv3(self.conv2(self.conv1(x))) + x)


class CrossStage(nn.Module):
    """A stage in two halves: one goes through the blocks, the other past them."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, depth: int, groups: int):
        super().__init__()
        self.half = outputs // 2
        self.conv_down = ConvNormAct(inputs, inputs, 3, stride=stride, groups=groups) if stride > 1 else nn.Identity()
        self.conv_exp = ConvNormAct(inputs, outputs, 1, act=False)
        self.blocks = nn.Sequential(*(Bottleneck(self.half, groups) for _ in range(depth)))
        self.conv_transition_b = ConvNormAct(self.half, self.half, 1)
        self.conv_transition = ConvNormAct(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        past, through = self.conv_exp(self.conv_down(x)).split(self.half, dim=1)
        through = self.conv_transition_b(self.blocks(through)).contiguous()
        return self.conv_transition(torch.cat([past, through], dim=1))


class Head(nn.Module):
    """Mean over the pixels, then one matrix."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.fc = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


class CspResNeXt(nn.Module):
    """N x 3 x height x width, normalised, to N x classes."""

    def __init__(self, shape: Shape = CSPRESNEXT50):
        super().__init__()
        self.stem = nn.Sequential()
        self.stem.add_module("conv1", ConvNormAct(3, shape.stem, 7, stride=2))
        self.stem.add_module("pool", nn.MaxPool2d(3, 2, 1))
        stages, inputs = [], shape.stem
        for place, (depth, outputs) in enumerate(zip(shape.depth, shape.channels, strict=True)):
            stages.append(CrossStage(inputs, outputs, stride=2 if place else 1, depth=depth, groups=shape.groups))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.head = Head(inputs, shape.classes)

    def features(self, x: Tensor) -> Tensor:
        """What the head's mean is taken over."""
        return self.stages(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def normalised(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 N x height x width x 3 to what the network takes, N x 3 x height x width (channels last in memory)."""
    mean, std = (torch.tensor(values, device=pixels.device).mul(255) for values in (MEAN, STD))
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2).to(dtype)


@torch.no_grad()
def randomised(
    shape: Shape, draw: Callable[[int], tuple[Tensor, Tensor]], *, batches: int, seed: int = 0
) -> CspResNeXt:
    """A network with random convolutions whose decisions are not chance.

    Batch norms get the statistics that photos have in them, as after training. The head gives each class the nearness of an
    image's features to their mean over photos of that class (a linear discriminant with one variance a feature), so that
    scores have margins as those of a trained network have.

    Args:
        draw: `draw(n)` makes that many photos: uint8 N x height x width x 3, and the class of each; on the device to work on.
        batches: of photos to learn from.
    """
    torch.manual_seed(seed)
    network = CspResNeXt(shape)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches
    network.to(draw(1)[0].device).train()
    for _ in range(max(1, batches // 4)):
        network(normalised(draw(_LEARN)[0]))
    network.eval()
    found, classes = zip(*(_features(network, *draw(_LEARN)) for _ in range(batches)), strict=True)
    _fit_head(network.head.fc, torch.cat(found), torch.cat(classes))
    return network


_LEARN = 64  # photos at once, float32


def _features(network: CspResNeXt, pixels: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    return network.features(normalised(pixels)).mean((2, 3)), classes


def _fit_head(head: nn.Linear, features: Tensor, classes: Tensor) -> None:
    mean = features.mean(0)
    one_hot = nn.functional.one_hot(classes, head.out_features).float()
    count = one_hot.sum(0)[:, None]
    centres = torch.where(count > 0, one_hot.T @ features / count.clamp(min=1), mean)
    within = (features - centres[classes]).var(0, unbiased=False)
    within = within + within.mean() / 4  # a feature that hardly varies in these photos is not trusted the more for it
    weight = (centres - mean) / within
    bias = -((centres - mean) * weight).sum(1) / 2 - weight @ mean
    known = count[:, 0] > 0
    bias[~known] = bias[known].min()  # a class without a photo is as far as the farthest
    scale = (features @ weight[known].T + bias[known]).std() / 3  # scores of the size that a trained network's have
    head.weight.copy_(weight / scale)
    head.bias.copy_(bias / scale)


@dataclass(frozen=True, slots=True)
class Work:
    """What one image costs at the least: operations (a multiply-add counted as two), and bytes where each convolution reads
    its input once and writes its output once, in two-byte numbers."""

    operations: float
    bytes: float


@torch.no_grad()
def work(network: CspResNeXt, size: int) -> Work:
    """Count an image's work, from the shapes that its convolutions meet."""
    operations = moved = 0.0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal operations, moved
        operations += 2.0 * output[0].numel() * module.weight[0].numel()
        moved += 2.0 * (inputs[0][0].numel() + output[0].numel())

    layers: Iterable[nn.Module] = (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    hooks = [layer.register_forward_hook(count) for layer in layers]
    parameter = next(network.parameters())
    network(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
    for hook in hooks:
        hook.remove()
    return Work(operations=operations, bytes=moved)
