"""INT8: post-training quantisation of an ONNX classifier with calibration images, into one QDQ ONNX file.

NNCF's file is what OpenVINO runs best. ONNX Runtime runs a convolution in int8 only where its result is quantised before
the activation, as ONNX Runtime's own quantiser does. Both work in a child process: NNCF prints on stdout, replaces
Python's logger class, imports torch where there is one, and starts its telemetry when it is imported.
"""

from __future__ import annotations

import difflib
import logging
import math
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from . import child, files
from .calibration import Calibration, CalibrationRecord, contents, overlap, refuse_overlap
from .data.labels import read_labels, require_in_range
from .data.source import Sample, Source, open_source
from .errors import CompileError, DataError, EngineUnavailableError, FormatError
from .graph import ClassifierGraph, read_classifier, write_spec
from .graph.quantized import is_quantized, stamp
from .spec import ModelSpec, Preprocess

Tool = Literal["nncf", "onnxruntime"]
FEWEST = 10  # calibration images
_MOST_CONTROL = 1000
_TITLES = {"nncf": "NNCF", "onnxruntime": "ONNX Runtime's quantiser"}
log = logging.getLogger("modelport")


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeOptions:
    """How to quantise.

    Attributes:
        tool: nncf for OpenVINO, onnxruntime for ONNX Runtime; see `Engine.quantizer`.
        preset: mixed (symmetric weights, asymmetric activations) or performance (all symmetric).
        samples: how many images calibrate, drawn at random with a fixed seed; all where there are fewer.
        max_drop: largest accepted drop of top-1 in points, measured on labelled images that calibrate nothing (at most
            1000). With nncf, layers are put back to floating point until it holds; with onnxruntime it is only checked.
        labels: label file of the images, for `max_drop`; None takes class subfolders' numbers.
        keep_float: operators to leave in floating point: names in the ONNX file, or of their results.
    """

    tool: Tool = "nncf"
    preset: Literal["mixed", "performance"] = "mixed"
    samples: int = 300
    max_drop: float | None = None
    labels: Path | None = None
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.samples < FEWEST:
            raise ValueError(f"samples must be at least {FEWEST}, got {self.samples}")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise ValueError(f"max_drop must be 0 to 100 points, got {self.max_drop}")


def quantize(  # noqa: PLR0913
    path: Path | str,
    images: Source | Path | str,
    output: Path | str,
    *,
    options: QuantizeOptions | None = None,
    preprocess: Preprocess | None = None,
    num_classes: int | None = None,
    evaluation: Source | None = None,
    force: bool = False,
) -> CalibrationRecord:
    """Quantise an ONNX classifier to INT8.

    Args:
        path: the classifier.
        images: calibration images: a planned source, or a folder, class subfolders, an `.info` list.
        output: QDQ ONNX file to write; its ModelSpec and the calibration are in its metadata.
        options: tool, preset, number of images, largest drop.
        preprocess: how its images are prepared; None takes what `export` wrote into the file.
        num_classes: for a file that does not say.
        evaluation: images that it will be judged on; refused if any of them would be used here.
        force: replace `output`.

    Raises:
        FormatError: the file is no image classifier, or is quantised already.
        DataError: too few images, a bad one, no labels for `max_drop`, or some of them are evaluation images.
        EngineUnavailableError: the quantiser is not installed.
        CompileError: it failed, or cannot keep within `max_drop`.
        OutputError: `output` exists.
    """
    options, output = options or QuantizeOptions(), Path(output)
    tool = require_tool(options.tool)
    files.refuse_existing(output, force=force, reuse_empty=False)
    graph = read_classifier(Path(path))
    spec = graph.resolve_spec(preprocess, num_classes)
    _require_quantizable(graph)
    require_operators(graph, options.keep_float)
    source = images if isinstance(images, Source) else open_source(images)
    chosen = _choose(source, options, spec, graph.batch_size or 1)
    seen, digest = contents(sample.origin for sample in (*chosen.calibration, *chosen.control))
    if evaluation is not None:
        refuse_overlap(overlap(seen, {sample.key: sample.origin for sample in evaluation}), source.where)
    log.info("quantising with %s: %d calibration images from %s", tool, len(chosen.calibration), source.where)
    with files.atomic_path(output) as temporary, tempfile.TemporaryDirectory() as folder:
        quantized = Path(folder) / "quantized.onnx"
        drop = _ask(graph, spec, options, chosen, quantized)
        if not is_quantized(quantized):
            raise CompileError(
                f"{path}: keeps within {options.max_drop:g} points of top-1 only with every layer in floating point; allow a "
                "larger --max-drop, or compile with --precision bf16 or f32"
            )
        model = onnx.load(quantized)
        calibration = Calibration(
            tool=tool,
            preset=options.preset,
            images=len(chosen.calibration),
            control_images=len(chosen.control),
            max_drop=options.max_drop,
            drop=drop,
            source=source.where,
            digest=digest,
            onnx_sha256=graph.sha256,
            keep_float=options.keep_float,
        )
        record = CalibrationRecord(calibration=calibration, seen=seen)
        stamp(model, record)
        onnx.save(model, temporary)
        write_spec(temporary, spec)
    return record


def require_tool(tool: Tool) -> str:
    """Name and version of an installed quantiser.

    Raises:
        EngineUnavailableError: it is not installed.
    """
    needed = {"nncf": ("nncf", "onnxruntime"), "onnxruntime": ("onnxruntime",)}[tool]
    for module in needed:
        if find_spec(module) is None:
            raise EngineUnavailableError(
                f"int8: {_TITLES[tool]} ({module}) is not installed: pip install 'modelport[int8]'"
            )
    return f"{tool} {version(tool)}"


def _require_quantizable(graph: ClassifierGraph) -> None:
    if is_quantized(graph.path):
        raise FormatError(
            f"{graph.path}: is quantised already; compile it with --precision int8, without --calibration"
        )
    if graph.opset < 10:
        raise FormatError(f"{graph.path}: has opset {graph.opset}; int8 needs 10 or later, best 13: export it again")
    if graph.opset < 13:
        log.warning("%s: opset %d has one scale per weight, not one per channel; 13 is better", graph.path, graph.opset)


def require_operators(graph: ClassifierGraph, names: tuple[str, ...]) -> None:
    """Raise FormatError where the graph has no operator of one of these names, or with a result of that name."""
    if not names:
        return
    nodes = onnx.load(graph.path, load_external_data=False).graph.node
    known = {name for node in nodes for name in (node.name, *node.output) if name}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`modelport diff` names operators as the file does"
            raise FormatError(f"{graph.path}: has no operator {name!r} to keep in floating point; {hint}")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Calibration images and control images, disjoint; a whole number of batches of each."""

    calibration: list[Sample]
    control: list[Sample]


def _choose(source: Source, options: QuantizeOptions, spec: ModelSpec, batch: int) -> _Chosen:
    if options.labels is not None:
        labels = read_labels(options.labels)
        require_in_range(labels, spec.num_classes, options.labels)
        source = source.labelled(labels)
    order = [source.samples[index] for index in np.random.default_rng(0).permutation(len(source))]
    chosen, rest = order[: options.samples], order[options.samples :]
    chosen = chosen[: len(chosen) - len(chosen) % batch]
    if len(chosen) < FEWEST:
        raise DataError(
            f"{source.where}: holds {len(source)} images; calibrating needs at least {max(FEWEST, batch)}, and a few hundred "
            "are better: give a folder with more"
        )
    if len(chosen) < options.samples:
        log.warning("%s: %d images calibrate, %d were asked for", source.where, len(chosen), options.samples)
    if options.max_drop is None:
        return _Chosen(chosen, [])
    control = [sample for sample in rest if sample.label is not None][:_MOST_CONTROL]
    control = control[: len(control) - len(control) % batch]
    needed = max(FEWEST, math.ceil(100 / options.max_drop) if options.max_drop else FEWEST)
    if len(control) < min(needed, _MOST_CONTROL):
        raise DataError(
            f"{source.where}: has {len(control)} labelled images besides the {len(chosen)} that calibrate; a largest drop of "
            f"{options.max_drop:g} points needs at least {needed}: give more images or labels, or fewer calibration samples"
        )
    return _Chosen(chosen, control)


def _as_files(samples: list[Sample], folder: Path) -> list[tuple[str, str, int | None]]:
    """Name, file and class of each image, for a child; one that is no file, but in a shard or store, is copied to the folder."""
    rows = []
    for number, sample in enumerate(samples):
        path = sample.origin
        if not isinstance(path, Path):
            path = folder / f"{number:06d}{sample.suffix}"
            path.write_bytes(sample.read())
        rows.append((sample.key, str(path.resolve()), sample.label))
    return rows


def _ask(
    graph: ClassifierGraph, spec: ModelSpec, options: QuantizeOptions, chosen: _Chosen, output: Path
) -> float | None:
    """Have a child quantise; returns the drop on the control images in points, where there are any. `output` has its folder to itself."""
    copies = output.parent / "calibration", output.parent / "control"
    for folder in copies:
        folder.mkdir()
    request = {
        "onnx": str(graph.path.resolve()),
        "output": str(output),
        "tool": options.tool,
        "preset": options.preset,
        "max_drop": options.max_drop,
        "keep_float": options.keep_float,
        "spec": spec.jsonable(),
        "calibration": _as_files(chosen.calibration, copies[0]),
        "control": _as_files(chosen.control, copies[1]),
    }
    try:
        drop = child.ask("modelport.quantizers", request)["drop"]
    except child.ChildDiedError as death:
        raise CompileError(
            f"{graph.path}: {_TITLES[options.tool]} died ({death.how}): {death.last}; try another preset, or fewer samples"
        ) from death
    if drop is not None and options.max_drop is not None and drop > options.max_drop + 5e-7:
        raise CompileError(
            f"{graph.path}: int8 loses {drop:.2f} points of top-1 on {len(chosen.control)} control images, {options.max_drop:g} are "
            "accepted; allow a larger --max-drop, try the other --preset, or compile with --precision bf16 or f32"
        )
    return drop
