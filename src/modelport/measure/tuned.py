"""The winner of a tuning as a recipe that `modelport run` takes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import yaml

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
from ..spec import Precision
from .choose import speed


def recipe_text(
    result: TuneResult, graph: ClassifierGraph, images: Path | str, labels: Path | None, calibration: Path | str | None
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
        model=ModelSection(onnx=graph.path.resolve(), num_classes=None if graph.num_classes else spec.num_classes),
        preprocess=preprocess,
        data=DataSection(
            images=_absolute(images),
            labels=labels.resolve() if labels else None,
            limit=result.limit,
            on_label_mismatch="count",
        ),
        calibration=CalibrationSection(images=_absolute(calibration)) if calibration and int8 else None,
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


def _absolute(images: Path | str) -> Path | str:
    return images.resolve() if isinstance(images, Path) else images
