"""A job's look inside its targets: rewrites that pay, the operator profile, and the error of every layer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .commands import Commands
from .comparison.compare import DIFF_FILE, DiffOptions, diff
from .data.source import Source
from .engines import load
from .errors import CompileError, EngineUnavailableError, FormatError, InferenceError
from .files import digest
from .graph import ClassifierGraph, read_classifier
from .host import environment
from .measure.optimize import OptimizeOptions, optimize, record_path
from .measure.profile import PROFILE_FILE, ProfileOptions, profile
from .offline import MANIFEST, OfflineModel
from .progress import Progress
from .recipe import Recipe, TargetSection
from .results import DiffResult, OptimizationResult, ProfileResult
from .spec import ModelSpec
from .stages import Stages

log = logging.getLogger("modelport")
Found = TypeVar("Found")


class Inspection:
    """The stages of a job that look inside. What an engine cannot show is left out, and said in `warnings`."""

    def __init__(self, recipe: Recipe, stages: Stages, commands: Commands, progress: Progress) -> None:
        self._recipe, self._stages, self._commands, self._progress = recipe, stages, commands, progress
        self.warnings: list[str] = []

    def optimized(
        self, target: TargetSection, graph: ClassifierGraph, spec: ModelSpec, home: Path
    ) -> tuple[ClassifierGraph, OptimizationResult | None]:
        """The graph that the target is compiled from: rewritten where the recipe asks for it."""
        if target.optimize == "off":
            return graph, None
        path, batch = home / "model.onnx", self._recipe.accuracy.batch_size
        options = OptimizeOptions(
            target=target.engine,
            precision=target.precision,
            batch_size=batch,
            measure=target.optimize == "measured",
            preprocess=spec.preprocess,
            num_classes=spec.num_classes,
        )
        inputs = {
            "onnx": graph.sha256,
            "spec": spec.jsonable(),
            "target": target.jsonable(),
            "version": load(target.engine).version(),
            "batch": batch,
            "environment": environment().jsonable(),
        }

        def work() -> None:
            home.mkdir(parents=True, exist_ok=True)
            optimize(graph.path, path, options=options, force=True, progress=self._progress)

        self._stages.run(f"optimize {target.name}", inputs, [path, record_path(path)], work)
        self._commands.optimize(target, graph.path, path)
        return read_classifier(path), OptimizationResult.read(record_path(path))

    def profile(self, target: TargetSection, model: OfflineModel, home: Path) -> ProfileResult | None:
        """Operators, on random input."""
        if not self._recipe.inspect.profile:
            return None
        directory = home / "profile"
        inputs = {
            "model": digest(model.path / MANIFEST),
            "threads": target.threads,
            "environment": environment().jsonable(),
        }

        def work() -> None:
            options = ProfileOptions(threads=target.threads)
            profile(model, options=options, output=directory, force=True, progress=self._progress)

        def ask() -> ProfileResult:
            self._stages.run(f"profile {target.name}", inputs, [directory / PROFILE_FILE], work, directory)
            self._commands.profile(target, model.path, directory)
            return ProfileResult.read(directory / PROFILE_FILE)

        return self._if_it_can(ask, f"{target.name}: no operator profile")

    def layers(
        self, target: TargetSection, files: tuple[Path, Path], model: OfflineModel, source: Source, home: Path
    ) -> DiffResult | None:
        """Every layer of the target against the first of `files`, the float ONNX file; it was compiled from the second."""
        if not self._recipe.inspect.layers:
            return None
        reference, compiled_from = files
        directory, first = home / "layers", source.limited(self._recipe.inspect.images)
        inputs = {
            "reference": digest(reference),
            "model": digest(model.path / MANIFEST),
            "images": first.digest(),
            "environment": environment().jsonable(),
        }

        def work() -> None:
            options = DiffOptions(
                onnx=(compiled_from,),
                limit=len(first),
                whole=True,
                preprocess=model.manifest.model.preprocess,
                num_classes=model.manifest.model.num_classes,
            )
            diff(reference, model.path, first, output=directory, options=options, force=True, progress=self._progress)

        def ask() -> DiffResult:
            self._stages.run(f"layers {target.name}", inputs, [directory / DIFF_FILE], work, directory)
            self._commands.layers(target, files, model.path, directory)
            return DiffResult.read(directory / DIFF_FILE)

        return self._if_it_can(ask, f"{target.name}: no comparison of layers")

    def _if_it_can(self, ask: Callable[[], Found], otherwise: str) -> Found | None:
        try:
            return ask()
        except (InferenceError, EngineUnavailableError, CompileError, FormatError) as error:
            self.warnings.append(f"{otherwise}: {error}")
            log.warning("%s: %s", otherwise, error)
            return None
