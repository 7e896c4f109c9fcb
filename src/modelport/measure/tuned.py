"""The winner of a tuning as a recipe that `modelport run` takes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import yaml

from ..engines import load
from ..graph import ClassifierGraph
from ..recipe import (
    AccuracySection,
    CalibrationSection,
    DataSection,
    ModelSection,
    PerformanceSection,
    Recipe,
    TargetSection,
)
from ..results import TuneResult
from ..spec import ModelSpec, Precision
from .choose import speed
from .sweep import SweepSpace


def recipe_text(
    result: TuneResult, graph: ClassifierGraph, images: Path | str, labels: Path | None, space: SweepSpace
) -> str:
    """The winner as YAML: the same model, images, floor, batch size, streams and threads; paths are absolute."""
    best = result.winner
    assert best is not None
    spec, size = result.sweep.subject.model, best.resolution
    preprocess = spec.preprocess if size or graph.default_preprocess != spec.preprocess else None
    if size:
        preprocess = spec.preprocess.model_copy(update={"input_size": (spec.preprocess.input_size[0], size, size)})
    knobs = {name: getattr(best, name) for name in ("engine", "precision", "input", "streams", "threads")}
    target = TargetSection(**knobs)
    int8 = best.precision is Precision.INT8
    recipe = Recipe(
        name=f"{spec.arch}-tuned",
        model=_model(best.engine, graph, spec, space),
        preprocess=preprocess,
        data=DataSection(
            images=_absolute(images),
            labels=labels.resolve() if labels else None,
            limit=result.limit,
            on_label_mismatch="count",
        ),
        calibration=CalibrationSection(images=_absolute(space.calibration)) if space.calibration and int8 else None,
        targets=(target,),
        accuracy=AccuracySection(tolerance_points=result.max_drop_points, batch_size=best.batch_size),
        performance=PerformanceSection(batch_sizes=(best.batch_size,)),
    )
    data = recipe.model_dump(mode="json", exclude_defaults=True)
    data["targets"] = [target.model_dump(mode="json", exclude_none=True)]
    measured = result.measured(best)
    head = (
        f"# Found by modelport tune on {datetime.now(UTC).date()}: {result.goal.text}, at most {result.max_drop_points:g} "
        f"{'points lost' if result.labelled else '% of decisions changed'} against {result.reference}.\n"
        f"# Measured on {result.sweep.subject.environment.cpu}: {speed(measured):,.1f} img/s.\n"
    )
    return head + yaml.safe_dump(data, sort_keys=False)


def _model(engine: str, graph: ClassifierGraph, spec: ModelSpec, space: SweepSpace) -> ModelSection:
    """The ONNX file; or the weights that it was exported from, for an engine that compiles PyTorch's network."""
    if not load(engine).from_program or space.weights is None:
        return ModelSection(onnx=graph.path.resolve(), num_classes=None if graph.num_classes else spec.num_classes)
    checkpoint = space.weights.checkpoint
    return ModelSection(
        arch=spec.arch,
        checkpoint=checkpoint and checkpoint.resolve(),
        random_weights=checkpoint is None,
        num_classes=spec.num_classes,
    )


def _absolute(images: Path | str) -> Path | str:
    return images.resolve() if isinstance(images, Path) else images
