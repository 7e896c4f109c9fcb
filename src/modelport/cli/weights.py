"""The options that name an ONNX file's network in PyTorch, for the engine that compiles that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .shared import PATH

if TYPE_CHECKING:
    from ..exporter.program import TorchWeights

F = TypeVar("F", bound=Callable[..., Any])


def weights_options(command: F) -> F:
    """--checkpoint and --random-weights, as parameters that `read_weights` understands."""
    command = click.option(
        "--random-weights", is_flag=True, help="inductor: the ONNX file was exported with --random-weights."
    )(command)
    return click.option(
        "--checkpoint",
        type=PATH,
        help="inductor: the weights that the ONNX file was exported from, which its digest proves.",
    )(command)


def read_weights(flags: dict[str, Any]) -> TorchWeights | None:
    """What the flags say, taken out of them; None where they say nothing."""
    checkpoint, random = flags.pop("checkpoint"), flags.pop("random_weights")
    if checkpoint is not None and random:
        raise click.UsageError("give either --checkpoint FILE or --random-weights")
    if checkpoint is None and not random:
        return None
    from ..exporter.program import TorchWeights

    return TorchWeights(checkpoint=checkpoint)
