"""`export`: a timm network with its weights becomes an ONNX file that says what it needs and is proven to compute the same."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..accuracy import measure_parity
from ..errors import CheckpointError, EngineUnavailableError, ExportError
from ..graph import read_classifier, write_spec
from ..results import Parity
from ..spec import ModelSpec, Preprocess
from ..telemetry import switch_off
from .checkpoint import build_network, default_preprocess, load_weights

INPUT, OUTPUT = "image", "class"
DEFAULT_OPSET = 18
DEFAULT_TOLERANCE = 1e-4
_DYNAMO_FROM = (
    18  # below it torch's dynamo exporter falls back to another opset without an error; TorchScript's does not
)
_PARITY_SAMPLES = 8

log = logging.getLogger("modelport")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What to export.

    Attributes:
        arch: timm's architecture name.
        checkpoint: weights file; None exports random weights, which serve for speed only.
        num_classes: width of the output; None takes timm's default.
        preprocess: how images are prepared; None takes timm's default for the architecture.
        input_size: side in pixels, in place of the preprocessing's.
        opset: version of the default ONNX operator set.
        batch_size: a fixed batch; None leaves the batch dynamic.
        tolerance: largest error of a score against PyTorch, as a share of the largest score.
        pins: expected digests of the checkpoint by algorithm (md5, sha256).
        class_names: a name for each class, from class 0.
    """

    arch: str
    checkpoint: Path | None = None
    num_classes: int | None = None
    preprocess: Preprocess | None = None
    input_size: int | None = None
    opset: int = DEFAULT_OPSET
    batch_size: int | None = None
    tolerance: float = DEFAULT_TOLERANCE
    pins: dict[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult:
    """An exported model.

    Attributes:
        path: the ONNX file.
        spec: what was written into its metadata.
        opset: of the file, read back.
        parity: against PyTorch, on random images at every batch size tried.
        warnings: what the user should look at, such as a preprocessing that is not timm's default.
    """

    path: Path
    spec: ModelSpec
    opset: int
    parity: Parity
    warnings: tuple[str, ...]


def export(options: ExportOptions, output: Path | str, *, force: bool = False) -> ExportResult:
    """Export a timm classifier to ONNX, input `image`, output `class`, and prove it against PyTorch.

    Raises:
        CheckpointError: the architecture is unknown, or the weights cannot be read or do not fit.
        ExportError: torch cannot export it, the file has another opset, or its scores differ beyond the tolerance.
        OutputError: `output` exists.
    """
    output = Path(output)
    files.refuse_existing(output, force=force, reuse_empty=False)
    network, spec, notes = load_network(options)
    for note in notes:
        log.warning(note)
    with files.atomic_path(output) as temporary:
        _to_onnx(network, spec, options, temporary)
        write_spec(temporary, spec)
        graph = read_classifier(temporary)
        if graph.opset != options.opset:
            raise ExportError(
                f"{options.arch}: torch wrote opset {graph.opset} although {options.opset} was asked for; choose another --opset"
            )
        parity = _prove(network, spec, options, temporary)
        if not parity.passed:
            raise ExportError(
                f"{options.arch}: the exported graph differs from PyTorch by up to {parity.max_abs_error:.3g} "
                f"(scores up to {parity.scale:.3g}), tolerance {options.tolerance:g} of that; try another --opset"
            )
    return ExportResult(path=output, spec=spec, opset=graph.opset, parity=parity, warnings=notes)


def load_network(options: ExportOptions) -> tuple[Any, ModelSpec, tuple[str, ...]]:
    """The PyTorch network with its weights, its ModelSpec, and what the user should be warned of."""
    network = build_network(options.arch, options.num_classes, _wanted_size(options))
    default = default_preprocess(network)
    preprocess = options.preprocess or default
    if options.input_size is not None:
        size = (preprocess.input_size[0], options.input_size, options.input_size)
        preprocess = preprocess.model_copy(update={"input_size": size})
    notes = []
    if differences := preprocess.differences(default):
        notes.append(
            f"{options.arch}: the preprocessing is not timm's default (ours, timm's): {'; '.join(differences)}"
        )
    digest = None
    if options.checkpoint is not None:
        digest = load_weights(network, options.checkpoint, options.pins)
    else:
        notes.append(f"{options.arch}: random weights: its speed is real, its predictions mean nothing")
    classes = getattr(network, "num_classes", None) or options.num_classes
    if not classes:
        raise CheckpointError(f"{options.arch}: has no classifier; pass --num-classes")
    spec = ModelSpec(arch=options.arch, num_classes=classes, checkpoint_sha256=digest, preprocess=preprocess)
    return network, spec.named(options.class_names), tuple(notes)


def _wanted_size(options: ExportOptions) -> tuple[int, int, int] | None:
    channels = options.preprocess.input_size[0] if options.preprocess else 3
    if options.input_size is not None:
        return channels, options.input_size, options.input_size
    return options.preprocess.input_size if options.preprocess else None


def _to_onnx(network: Any, spec: ModelSpec, options: ExportOptions, path: Path) -> None:
    import torch

    dynamo = options.opset >= _DYNAMO_FROM
    # Two images: torch.export takes a batch of one for a constant.
    example = torch.zeros(options.batch_size or 2, *spec.preprocess.input_size)
    settings: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT], "opset_version": options.opset}
    if dynamo:
        settings |= {"dynamo": True, "external_data": False, "verbose": False}
        if options.batch_size is None:
            settings["dynamic_shapes"] = ({0: torch.export.Dim("batch", min=1)},)
    else:
        settings["dynamo"] = False
        if options.batch_size is None:
            settings["dynamic_axes"] = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}
    try:
        with torch.no_grad(), warnings.catch_warnings(), _quiet_stdout():
            warnings.simplefilter("ignore")  # torch's notices about its own exporters
            torch.onnx.export(network, (example,), str(path), **settings)
    except Exception as error:  # the exporters raise whatever the network's code raises
        hint = "a fixed --batch-size may help" if options.batch_size is None else "another --opset may help"
        lines = str(error).strip().splitlines() or [""]
        raise ExportError(
            f"torch cannot export {options.arch} at opset {options.opset}: {type(error).__name__}: {lines[0][:200]}; {hint}"
        ) from error


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Send what the exporters print to stderr, where logs belong; some of it is written below Python's own stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _prove(network: Any, spec: ModelSpec, options: ExportOptions, path: Path) -> Parity:
    """Parity on images of random colours and on noise, at one batch size more than was exported where it is dynamic."""
    import torch

    rng = np.random.default_rng(0)
    noise = rng.standard_normal((_PARITY_SAMPLES, *spec.preprocess.input_size), dtype=np.float32)
    noise[::2] = noise[::2].cumsum(axis=2).cumsum(axis=3) / np.sqrt(
        spec.preprocess.input_size[1]
    )  # smooth, as images are
    noise[::2] /= np.abs(noise[::2]).max(axis=(1, 2, 3), keepdims=True) / 2
    run = _onnx_runner(path)
    sizes = [options.batch_size] if options.batch_size else [1, 3]
    ours, theirs = [], []
    with torch.no_grad():
        for size in sizes:
            for batch in (noise[start : start + size] for start in range(0, _PARITY_SAMPLES - size + 1, size)):
                ours.append(run(batch))
                theirs.append(network(torch.from_numpy(batch)).numpy())
    if not ours:  # a fixed batch larger than the sample set
        batch = np.resize(noise, (sizes[0], *spec.preprocess.input_size))
        ours.append(run(batch))
        with torch.no_grad():
            theirs.append(network(torch.from_numpy(batch)).numpy())
    against = f"PyTorch {torch.__version__}"
    return measure_parity(np.concatenate(theirs), np.concatenate(ours), against=against, tolerance=options.tolerance)


def _onnx_runner(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs the exported file as it is.

    Raises:
        EngineUnavailableError: ONNX Runtime is not installed.
        ExportError: it cannot run the file.
    """
    switch_off()
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailableError(
            f"proving an export needs ONNX Runtime ({error}): pip install 'modelport[export]'"
        ) from error
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # the binding raises a dozen unrelated classes
        raise ExportError(
            f"the exported graph cannot be run: {str(error).strip().splitlines()[0]}; try another --opset"
        ) from error
    return lambda batch: session.run([OUTPUT], {INPUT: batch})[0]
