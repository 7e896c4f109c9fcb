"""The command lines that reproduce each part of a job on its own, for its reports."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from .recipe import Recipe, TargetSection
from .results import Command

Part = Literal["model", "accuracy", "performance", "inside"]


class Commands:
    """Collects a job's command lines as its steps are done."""

    def __init__(self, recipe: Recipe, path: Path) -> None:
        """`path` is the recipe's file, from which other commands take the preprocessing."""
        self._recipe, self._path = recipe, path
        self.all: list[Command] = []

    def export(self, output: Path) -> None:
        """Checkpoint to ONNX."""
        model = self._recipe.model
        weights = self._weights()
        classes = ["--num-classes", model.num_classes] if model.num_classes else []
        words = ["--arch", model.arch, *weights, *classes, *self._names(), "--recipe", self._path]
        words += ["--opset", self._recipe.export.opset]
        self._add("model", "ONNX file and its parity with PyTorch", "export", *words, "-o", output)

    def compile(
        self, target: TargetSection, batch_size: int, onnx: Path, output: Path, *, preprocess_stated: bool
    ) -> None:
        """ONNX to an offline model; `preprocess_stated` where the ONNX file itself says how images are prepared."""
        words: list[object] = ["--engine", target.engine, "--precision", target.precision, "--batch-size", batch_size]
        if target.input != "float32":
            words += ["--input", target.input]
        if not preprocess_stated:
            words += ["--recipe", self._path]
        if target.precision == "int8":
            words += self._calibration()
        if self._recipe.model.onnx is not None:  # `export` has put them into its file
            words += self._names()
        if target.engine == "inductor":
            words += self._weights()
            words += ["--device", target.device] if target.device else []
            words += [f"--{name}" for name in ("tf32", "autotune") if getattr(target, name)]
        self._add("model", f"{target.name}, batch {batch_size}: offline model", "compile", onnx, *words, "-o", output)

    def infer(self, target: TargetSection, model: Path, home: Path, output: Path) -> None:
        """Predictions, and their accuracy where there is a label file."""
        data = self._recipe.data
        limit = ["--limit", data.limit] if data.limit else []
        fast = ["--preprocess", "fast"] if data.preprocessing == "fast" else []
        inference = self._recipe.inference
        isolate = ["--isolate"] if inference.isolate else []
        if inference.batch_timeout:
            isolate += ["--batch-timeout", f"{inference.batch_timeout:g}"]
        words = ["--images", data.images, *limit, *_session(target), *isolate, *fast, "--scores"]
        self._add("accuracy", f"{target.name}: predictions and stages", "infer", model, *words, "-o", output)
        if data.labels:
            words = ["--labels", data.labels, "-o", home / "result.json"]
            self._add("accuracy", f"{target.name}: accuracy", "evaluate", output, *words)

    def bench(self, target: TargetSection, batch_size: int, model: Path) -> None:
        """Pure inference."""
        plan = self._recipe.performance
        rounds = [] if plan.rounds is None else ["--rounds", plan.rounds]
        words = [*rounds, "--warmup", plan.warmup, *_session(target)]
        self._add("performance", f"{target.name}, batch {batch_size}: pure inference", "bench", model, *words)

    def optimize(self, target: TargetSection, onnx: Path, output: Path) -> None:
        """Rewrites of the graph."""
        words: list[object] = ["--target", target.engine, "--precision", target.precision]
        words += ["--batch-size", self._recipe.accuracy.batch_size]
        words += ["--no-measure"] if target.optimize == "by-rule" else []
        self._add("inside", f"{target.name}: rewrites", "optimize", onnx, *words, "--recipe", self._path, "-o", output)

    def profile(self, target: TargetSection, model: Path, output: Path) -> None:
        """Operators, and the machine's roofs."""
        words = ["--threads", target.threads] if target.threads else []
        self._add("inside", f"{target.name}: operators and roofline", "profile", model, *words, "-o", output)

    def layers(self, target: TargetSection, files: tuple[Path, Path], model: Path, output: Path) -> None:
        """Error of every layer; the first of `files` is the reference, the model was compiled from the second."""
        reference, onnx = files
        words = ["--images", self._recipe.data.images, "--limit", self._recipe.inspect.images, "--onnx", onnx, "--all"]
        self._add("inside", f"{target.name}: layers", "diff", reference, model, *words, "-o", output)

    def _names(self) -> list[object]:
        names = self._recipe.model.class_names
        return ["--class-names", names] if names else []

    def _weights(self) -> list[object]:
        checkpoint = self._recipe.model.checkpoint
        return ["--checkpoint", checkpoint] if checkpoint else ["--random-weights"]

    def _calibration(self) -> list[object]:
        calibration = self._recipe.calibration
        assert calibration is not None
        words: list[object] = ["--calibration", calibration.images, "--calibration-samples", calibration.samples]
        words += ["--preset", calibration.preset]
        if calibration.max_drop is not None:
            words += ["--max-drop", calibration.max_drop]
        return [*words, *(["--calibration-labels", calibration.labels] if calibration.labels else [])]

    def _add(self, part: Part, what: str, *words: object) -> None:
        self.all.append(Command(part=part, what=what, line=shlex.join(["modelport", *map(str, words)])))


def _session(target: TargetSection) -> list[object]:
    """The options of `infer` and `bench` that open a model as the target says."""
    streams = ["--streams", target.streams] if target.streams else []
    return [*streams, *(["--threads", target.threads] if target.threads else [])]
