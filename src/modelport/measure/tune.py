"""Tuning: the best configuration for a goal that keeps its accuracy, found by a sweep and real-data runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from .. import files
from ..accuracy import INFER_FILE, PREDICTIONS_FILE, compare_decisions, count_topn
from ..data.labels import label_key, read_labels
from ..data.predictions import Predictions
from ..data.source import Source
from ..errors import FormatError, InferenceError
from ..graph import read_classifier
from ..graph.quantized import is_quantized
from ..host import environment
from ..inference import prepare_source
from ..offline import MANIFEST
from ..origin import location
from ..progress import Progress, silent
from ..results import Accuracy, Configuration, Goal, SweepResult, SweepSettings, TuneResult, VariantAccuracy
from ..spec import Precision, Preprocess
from ..stages import Stages, open_stages
from .choose import choose, explain_miss, meets, pareto_front, settle_front, speed
from .store import ModelStore
from .sweep import SweepSpace, sweep
from .trial import FailedWorkError, infer_apart
from .tuned import recipe_text

TUNE_FILE, RECIPE_FILE, ACCURACY_DIRECTORY = "tune.json", "tuned.yaml", "accuracy"
_REFERENCE_ENGINE = "onnxruntime"
_REFERENCE_BATCH = 8
log = logging.getLogger("modelport")


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneOptions:
    """What to tune for.

    Attributes:
        goal: throughput, or throughput within a latency.
        max_drop_points: the floor: largest drop of Top1 and of Top5 against the reference, percentage points; without
            labels, largest percentage of images with another first prediction.
        labels: label file; None takes class subfolders' numbers, or compares decisions on a flat folder.
        limit: only the first N images.
        accuracy_timeout_s: until a real-data run is ended.
        sweep: how speed is measured.
        preprocess, num_classes: for a file that does not say.
    """

    goal: Goal = field(default_factory=Goal)
    max_drop_points: float = 1.0
    labels: Path | None = None
    limit: int | None = None
    accuracy_timeout_s: float = 3600.0
    sweep: SweepSettings = field(default_factory=SweepSettings)
    preprocess: Preprocess | None = None
    num_classes: int | None = None


def tune(  # noqa: PLR0913
    onnx: Path | str,
    images: Path | str,
    output: Path | str,
    space: SweepSpace,
    *,
    options: TuneOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> TuneResult:
    """Find the best configuration of a classifier that keeps its accuracy.

    The space is swept first; an earlier sweep of the same model in `output` is taken up. Accuracy is then measured of the
    engines and precisions that are on the front of throughput against latency, until all that are on it meet the floor.

    Args:
        onnx: the classifier.
        images: folder, class subfolders, an `.info` list, an image.
        output: directory of the sweep, of the predictions in `accuracy/`, of `tune.json` and the winner's `tuned.yaml`.
        space: what to try.
        options: goal, floor, labels.
        force: start anew.
        progress: called as trials and real-data runs are done.

    Returns:
        The front and the winner. That nothing meets goal and floor is a result, not an error: it says what came closest.

    Raises:
        DataError: no images, or labels that do not fit.
        InferenceError: no configuration ran, or no f32 reference could be run.
        ModelportError: whatever a sweep raises.
    """
    options, output = options or TuneOptions(), Path(output)
    graph = read_classifier(Path(onnx))
    if is_quantized(graph.path):
        raise FormatError(
            f"{onnx}: is quantised already; tune the file that it was made from, with --calibration DIR for int8"
        )
    spec = graph.resolve_spec(options.preprocess, options.num_classes)
    source = prepare_source(images, options.labels, spec, options.limit)  # before the sweep, not after
    swept = sweep(
        onnx, output, space, settings=options.sweep, preprocess=spec.preprocess, num_classes=spec.num_classes,
        force=force, progress=progress,
    )  # fmt: skip
    if not swept.ran:
        first = swept.configurations[0]
        raise InferenceError(
            f"{onnx}: none of the {len(swept.configurations)} configurations ran; the first, {first.configuration.text}: "
            f"{first.outcome}: {first.reason}"
        )
    store = ModelStore(output, graph, swept.subject, space.calibration, space.weights)
    with open_stages(output / ACCURACY_DIRECTORY) as stages:
        place = _Place(store, stages, output / ACCURACY_DIRECTORY)
        result = _Tuning(place, _Images(location(images), source, options), swept, progress).run(space)
    result.write(output / TUNE_FILE)
    if result.winner is None:
        (output / RECIPE_FILE).unlink(missing_ok=True)
    else:
        files.write_text(output / RECIPE_FILE, recipe_text(result, graph, location(images), options.labels, space))
    return result


@dataclass(frozen=True, slots=True)
class _Images:
    """What accuracy is measured on."""

    where: Path | str
    source: Source
    options: TuneOptions

    def labels(self) -> dict[str, int]:
        """Classes by `label_key`; empty where there are none."""
        wanted = {label_key(sample.key): sample.label for sample in self.source if sample.label is not None}
        return wanted | (read_labels(self.options.labels) if self.options.labels else {})


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tuning keeps things: models, which real-data runs are done, and their predictions."""

    store: ModelStore
    stages: Stages
    directory: Path


class _Tuning:
    """The accuracy part of one tuning."""

    def __init__(self, place: _Place, images: _Images, swept: SweepResult, progress: Progress) -> None:
        self._store, self._stages, self._directory = place.store, place.stages, place.directory
        self._images, self._swept = images, swept
        self._wanted, self._progress = images.labels(), progress
        self._found: dict[str, VariantAccuracy] = {}
        self._predictions: dict[str, Predictions] = {}
        self._variants = len({measured.configuration.variant for measured in swept.ran})

    def run(self, space: SweepSpace) -> TuneResult:
        """Find the reference, the front and the winner."""
        options, ran = self._images.options, self._swept.ran
        self._reference, self._name = self._find_reference(space)
        front = settle_front(
            ran, lambda configuration: self._measure(configuration).loss_points, options.max_drop_points
        )
        winner = choose(front, options.goal)
        losses = {variant: found.loss_points for variant, found in self._found.items()}
        unit = "points" if self._wanted else "% of decisions"
        problem = None if winner else explain_miss(front, options.goal, losses, options.max_drop_points, unit)
        return TuneResult(
            goal=options.goal,
            max_drop_points=options.max_drop_points,
            labelled=bool(self._wanted),
            reference=self._name,
            reference_accuracy=self._count(self._reference),
            images=len(self._images.source),
            limit=options.limit,
            source=self._images.source.where,
            sweep=self._swept,
            accuracies=tuple(self._found.values()),
            front=tuple(found.configuration for found in front or pareto_front(ran)),
            winner=winner,
            problem=problem,
        )

    def _find_reference(self, space: SweepSpace) -> tuple[Predictions, str]:
        """Predictions in f32 at the model's own resolution: by ONNX Runtime, else by the first engine that can."""
        problems = []
        size = self._store.graph.batch_size or min(space.batch_sizes, key=lambda size: abs(size - _REFERENCE_BATCH))
        for engine in dict.fromkeys((_REFERENCE_ENGINE, *space.engines)):
            configuration = Configuration(engine=engine, precision=Precision.F32, batch_size=size)
            try:
                return self._predict(configuration), configuration.variant
            except FailedWorkError as error:
                problems.append(f"{engine}: {error.reason}")
        raise InferenceError(f"no f32 reference could be run, so accuracy cannot be judged: {'; '.join(problems)}")

    def _measure(self, configuration: Configuration) -> VariantAccuracy:
        variant = configuration.variant
        if variant not in self._found:
            mine = (found for found in self._swept.ran if found.configuration.variant == variant)
            try:
                found = self._judge(variant, self._predict(max(mine, key=speed).configuration))
            except FailedWorkError as error:
                log.warning("accuracy of %s: %s: %s", variant, error.outcome, error.reason)
                problem = f"{error.outcome}: {error.reason}"
                found = VariantAccuracy(variant=variant, loss_points=None, passed=False, problem=problem)
            self._found[variant] = found
            self._progress("accuracy", len(self._found), self._variants)
        return self._found[variant]

    def _judge(self, variant: str, ours: Predictions) -> VariantAccuracy:
        accuracy, reference = self._count(ours), self._count(self._reference)
        paired = compare_decisions(self._reference, ours, self._wanted, against=self._name)
        if accuracy is not None and reference is not None:
            loss = 100 * max(reference.topn[n] - accuracy.topn[n] for n in (0, -1))
        else:
            loss = 100 * paired.changed / paired.images
        passed = meets(loss, self._images.options.max_drop_points)
        return VariantAccuracy(variant=variant, loss_points=loss, passed=passed, accuracy=accuracy, paired=paired)

    def _count(self, predictions: Predictions) -> Accuracy | None:
        if not self._wanted:
            return None
        classes, limited = self._swept.subject.model.num_classes, self._images.options.limit is not None
        return count_topn(predictions, self._wanted, classes=classes, limited=limited)

    def _predict(self, configuration: Configuration) -> Predictions:
        """Predictions of the configuration's variant, made now or by an earlier tuning."""
        if configuration.variant in self._predictions:
            return self._predictions[configuration.variant]
        model, images = self._store.get(configuration), self._images
        directory = self._directory / configuration.variant
        inputs = {
            "model": files.digest(model / MANIFEST),
            "images": images.source.digest(),
            "limit": images.options.limit,
            "environment": environment().jsonable(),
        }

        def work() -> None:
            options = images.options
            infer_apart(model, images.where, options.labels, limit=options.limit, output=directory,
                        timeout=options.accuracy_timeout_s)  # fmt: skip

        made = [directory / PREDICTIONS_FILE, directory / INFER_FILE]
        self._stages.run(f"accuracy {configuration.variant}", inputs, made, work)
        predictions = Predictions.read(directory / PREDICTIONS_FILE)
        self._predictions[configuration.variant] = predictions
        return predictions
