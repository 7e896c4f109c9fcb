"""A network with its weights as an exported PyTorch program, for engines that compile that and not the ONNX file's graph.

The program is a file for a moment, between this process and the compiler's. PyTorch's loader of such files is no guard against
strangers' ones; whoever has weights gives the checkpoint, which is read with care.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .. import files
from ..engines.base import CompileOptions
from ..errors import CheckpointError, ExportError
from ..spec import ModelSpec
from .export import ExportOptions, load_network

_PROGRAM = "program.pt2"


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchWeights:
    """Where the weights of an ONNX file's network lie in PyTorch: a checkpoint; None for timm's random ones, always the same."""

    checkpoint: Path | None = None


@contextmanager
def with_program(
    options: CompileOptions, weights: TorchWeights | None, spec: ModelSpec, onnx: Path
) -> Iterator[CompileOptions]:
    """The options to compile with, and for as long as that takes the program that they name.

    Args:
        options: batch size.
        weights: None leaves the options as they are.
        spec: what the ONNX file says of itself: architecture, classes, digest of the checkpoint, input size.
        onnx: its name, for errors.

    Raises:
        CheckpointError: these are not the weights that the ONNX file was exported from, or cannot be read.
        ExportError: PyTorch cannot export the network.
    """
    if weights is None:
        yield options
        return
    network = _same_network(weights, spec, onnx)
    with TemporaryDirectory(prefix="modelport-program-") as folder:
        path = Path(folder) / _PROGRAM
        save_program(network, (options.batch_size, *spec.preprocess.input_size), path)
        yield replace(options, program=str(path))


def save_program(network: Any, shape: tuple[int, ...], path: Path) -> None:
    """Write a `torch.nn.Module` as an exported program with this static input shape.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    import torch

    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's notices about its own exporter
            torch.export.save(torch.export.export(network.eval(), (torch.zeros(shape),), strict=False), path)
    except Exception as error:  # whatever the network's code raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{type(network).__name__}: torch.export cannot export it: {reason}") from error


def _same_network(weights: TorchWeights, spec: ModelSpec, onnx: Path) -> Any:
    """The PyTorch network that the ONNX file was exported from, proven by its checkpoint's digest."""
    told = spec.checkpoint_sha256
    if weights.checkpoint is None and told is not None:
        raise CheckpointError(
            f"{onnx}: was exported from a checkpoint (sha256 {told[:12]}…) and not with random weights; pass --checkpoint FILE"
        )
    if weights.checkpoint is not None:
        if not weights.checkpoint.is_file():
            raise CheckpointError(f"{weights.checkpoint}: no such checkpoint file")
        found = files.digest(weights.checkpoint)
        if told is None:
            raise CheckpointError(
                f"{onnx}: does not say which checkpoint it was exported from, so nothing proves that it is {weights.checkpoint}; "
                "export it with `modelport export`, or pass --random-weights where it has such"
            )
        if found != told:
            raise CheckpointError(
                f"{weights.checkpoint}: is not what {onnx} was exported from (sha256 {found[:12]}…, the ONNX file says "
                f"{told[:12]}…); give that checkpoint, or export this one"
            )
    options = ExportOptions(
        arch=spec.arch, checkpoint=weights.checkpoint, num_classes=spec.num_classes, preprocess=spec.preprocess
    )
    network, _, _ = load_network(options)
    return network
