"""Recipe: one YAML file that states a whole job. Paths in it are relative to the file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from .errors import CheckpointError, DataError, FormatError
from .origin import location
from .results import ReferenceAccuracy
from .results.performance import target_name
from .schema import Record, parse_yaml, read_yaml
from .spec import Precision, Preprocess

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0)]


def _location(value: object) -> Path | str:
    if not isinstance(value, Path | str):
        raise ValueError("a path or URL is needed")
    return location(value)


Images = Annotated[
    Path | str, PlainValidator(_location), PlainSerializer(str), WithJsonSchema({"type": "string"})
]  # a URL stays as it is written


class ModelSection(Record):
    """The model: a timm architecture with a checkpoint or random weights, or an ONNX file.

    Attributes:
        arch: timm's architecture name; not with `onnx`.
        checkpoint: weights file.
        random_weights: random weights instead, for speed only.
        onnx: an ONNX classifier instead.
        num_classes: width of the output; needed where neither timm nor the ONNX file says.
        md5, sha256: pins of the checkpoint.
        size_bytes, origin: told to whoever lacks the file: its size, and where it comes from.
        class_names: file with a name for each class; None takes those in the ONNX file, if any.
    """

    arch: str | None = None
    checkpoint: Path | None = None
    random_weights: bool = False
    onnx: Path | None = None
    num_classes: Positive | None = None
    md5: str | None = None
    sha256: str | None = None
    size_bytes: Positive | None = None
    origin: str | None = None
    class_names: Path | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("checkpoint", "random_weights", "onnx") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of checkpoint, random_weights and onnx, has {', '.join(given) or 'none'}"
            )
        if (self.arch is None) != (self.onnx is not None):
            raise ValueError("arch goes with checkpoint or random_weights, and is needed there")
        return self

    @property
    def pins(self) -> dict[str, str]:
        """Expected digests by algorithm."""
        return {name: value for name in ("md5", "sha256") if (value := getattr(self, name))}


class ExportSection(Record):
    """How the ONNX file is made. `tolerance`: largest score error against PyTorch, as a share of the largest score."""

    opset: Annotated[int, Field(ge=7)] = 18
    tolerance: Share = 1e-4


class DataSection(Record):
    """The evaluation images.

    Attributes:
        images: folder, class subfolders, `.info` or `.txt` list, tar or Parquet shards, or a URL of any of these.
        labels: label file; None takes class subfolders' numbers, or measures no accuracy on a flat folder.
        limit: only the first N images.
        on_bad_image: count it as wrong and list it, or end the run.
        on_label_mismatch: end the run where an image lacks a label or a label an image, or count them.
        preprocessing: exact, or fast: near it, for the targets; the source is always prepared exactly, so that what it
            changes is seen.
        origin: told to whoever lacks the images: where they come from, and their layout.
    """

    images: Images
    labels: Path | None = None
    limit: Positive | None = None
    on_bad_image: Literal["count", "fail"] = "count"
    on_label_mismatch: Literal["fail", "count"] = "fail"
    preprocessing: Literal["exact", "fast"] = "exact"
    origin: str | None = None


class CalibrationSection(Record):
    """What int8 targets are calibrated with; never the evaluation images.

    Attributes:
        images: as those of `data`.
        labels: label file of these, for `max_drop`; None takes class subfolders' numbers.
        samples: how many images, at random.
        preset: mixed (asymmetric activations) or performance (all symmetric).
        max_drop: largest drop of top-1 in points, on labelled images that calibrate nothing.
    """

    images: Images
    labels: Path | None = None
    samples: Annotated[int, Field(ge=10)] = 300
    preset: Literal["mixed", "performance"] = "mixed"
    max_drop: Annotated[float, Field(ge=0, le=100)] | None = None


class TargetSection(Record):
    """One engine at one precision; batches at once and cores in all, where they are not left to infer and bench.

    `input: uint8` has the model normalise pixels itself: fewer bytes to move for the same decisions. `optimize: measured`
    rewrites the graph for the engine first and keeps what is faster and equal; `by-rule` does not measure. `device` is cpu or
    cuda for inductor, and the provider (cpu, cuda or tensorrt) for onnxruntime; `tf32` and `autotune` are for inductor.
    """

    engine: str
    precision: Precision = Precision.F32
    input: Literal["float32", "uint8"] = "float32"
    streams: Positive | None = None
    threads: Positive | None = None
    optimize: Literal["off", "measured", "by-rule"] = "off"
    device: Literal["cpu", "cuda", "tensorrt"] | None = None
    tf32: bool = False
    autotune: bool = False

    @model_validator(mode="after")
    def _pytorch_is_not_rewritten(self) -> Self:
        if self.engine == "inductor" and self.optimize != "off":
            raise ValueError(
                "optimize rewrites ONNX graphs, and inductor compiles PyTorch's own network: leave it off there"
            )
        return self

    @property
    def name(self) -> str:
        """Such as `openvino-bf16`, or `openvino-bf16-uint8`."""
        return target_name(self.engine, self.precision, self.input)


class AccuracySection(Record):
    """What accuracy is held against, and how far it may drop.

    Attributes:
        tolerance_points: largest drop of Top1 and Top5, in percentage points.
        recorded: a published accuracy of these very weights; a gate.
        information: other figures to show beside, never a gate.
        against_source: also run the source (PyTorch, or the ONNX file as it is) on the same images; a gate.
        parity: largest score error of f32 targets against the source, as a share of the largest score; a gate.
        batch_size: batch size of the accuracy run.
    """

    tolerance_points: Share = 1.0
    recorded: ReferenceAccuracy | None = None
    information: tuple[ReferenceAccuracy, ...] = ()
    against_source: bool = True
    parity: Share = 1e-4
    batch_size: Positive = 8


class PerformanceSection(Record):
    """Pure inference: which batch sizes, how many counted rounds (None is as of `measure.bench`) and how many before."""

    batch_sizes: tuple[Positive, ...] = (1, 4, 8, 16, 32)
    rounds: Positive | None = None
    warmup: Annotated[int, Field(ge=0)] = 5


class InferenceSection(Record):
    """How the real-data runs of offline models are made.

    Attributes:
        isolate: in a process of the engine's own: an image that crashes or hangs it is counted as `data.on_bad_image` says.
        batch_timeout: seconds after which a batch of such a run hangs.
    """

    isolate: bool = False
    batch_timeout: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _only_isolated_batches_can_be_ended(self) -> Self:
        if self.batch_timeout and not self.isolate:
            raise ValueError("batch_timeout goes with isolate: only a process of its own can be ended when it hangs")
        return self


class InspectSection(Record):
    """What the report shows of the inside of each target. Both cost time.

    Attributes:
        profile: what every operator costs, at the accuracy run's batch size.
        layers: how far every layer is from the same layer of the float ONNX file.
        images: on how many of the images, for `layers`.
    """

    profile: bool = False
    layers: bool = False
    images: Positive = 8


class Recipe(Record):
    """A whole job."""

    name: Annotated[str, Field(min_length=1)]
    model: ModelSection
    preprocess: Preprocess | None = None
    export: ExportSection = ExportSection()
    data: DataSection
    calibration: CalibrationSection | None = None
    targets: Annotated[tuple[TargetSection, ...], Field(min_length=1)]
    accuracy: AccuracySection = AccuracySection()
    inference: InferenceSection = InferenceSection()
    performance: PerformanceSection = PerformanceSection()
    inspect: InspectSection = InspectSection()

    @model_validator(mode="after")
    def _targets_differ(self) -> Self:
        names = [target.name for target in self.targets]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"targets lists {sorted(twice)[0]} twice")
        return self

    @model_validator(mode="after")
    def _only_float_graphs_are_rewritten(self) -> Self:
        if any(target.precision is Precision.INT8 and target.optimize != "off" for target in self.targets):
            raise ValueError(
                "optimize rewrites float graphs: an int8 target is quantised from the file as it is, leave it off there"
            )
        return self

    @model_validator(mode="after")
    def _inductor_has_weights(self) -> Self:
        if self.model.onnx is not None and any(target.engine == "inductor" for target in self.targets):
            raise ValueError(
                "an inductor target compiles PyTorch's own network: model needs arch with checkpoint or random_weights, not onnx"
            )
        return self

    @model_validator(mode="after")
    def _int8_is_calibrated(self) -> Self:
        if self.calibration is None and any(target.precision is Precision.INT8 for target in self.targets):
            raise ValueError("an int8 target needs calibration.images, which are not those of data.images")
        return self

    @classmethod
    def load(cls, path: Path | str, overrides: dict[str, Any] | None = None) -> Recipe:
        """Read a recipe.

        Args:
            path: the YAML file.
            overrides: values by dotted key, such as `{"performance.rounds": 5}`.

        Raises:
            FormatError: not YAML, an unknown key (with the likely one), or a wrong type (with its place).
        """
        path = Path(path)
        data = read_yaml(path)
        if not isinstance(data, dict):
            raise FormatError(f"{path}: a recipe is a mapping with the keys {', '.join(cls.model_fields)}")
        for key, value in (overrides or {}).items():
            _set(data, key, value, path)
        recipe = cls.parse(data, str(path))
        base = path.parent
        return recipe.model_copy(
            update={
                "model": _resolved(recipe.model, base, "checkpoint", "onnx", "class_names"),
                "data": _resolved(recipe.data, base, "images", "labels"),
                "calibration": recipe.calibration and _resolved(recipe.calibration, base, "images", "labels"),
            }
        )

    def require_files(self) -> None:
        """Raise where weights, images or labels are not there, saying what they are and where they come from."""
        model, data = self.model, self.data
        weights = model.checkpoint or model.onnx
        if weights and not weights.is_file():
            known = [f"{name} {value}" for name, value in model.pins.items()]
            if model.size_bytes:
                known.append(f"{model.size_bytes:,} bytes")
            raise CheckpointError(_absent(weights, "model", known, model.origin))
        for path, what in ((data.images, "images"), (data.labels, "labels")):
            if path and not _may_exist(path):
                raise DataError(_absent(path, what, [], data.origin))
        for path in (self.calibration.images, self.calibration.labels) if self.calibration else ():
            if path and not _may_exist(path):
                raise DataError(_absent(path, "calibration", [], None))


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` from the command line; the value is read as YAML, so `4`, `true` and `[1, 2]` have their types.

    Raises:
        FormatError: no `=`, or no YAML value.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise FormatError(f"--set {text!r}: expected key=value, such as performance.rounds=5")
    return key, parse_yaml(value, f"--set {text!r}")


def _set(data: dict[str, Any], key: str, value: Any, path: Path) -> None:
    *parents, last = key.split(".")
    node: Any = data
    for part in parents:
        node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if node is None:
            break
    if not isinstance(node, dict):
        raise FormatError(f"{path}: --set {key}: there is no section to set it in")
    node[last] = value


def _resolved(section: Record, base: Path, *names: str) -> Record:
    """Relative paths made relative to the working directory, `~` expanded."""
    given = {name: value for name in names if isinstance(value := getattr(section, name), Path)}
    found = {name: Path(os.path.expanduser(value)) for name, value in given.items()}  # leaves another's ~NAME as it is
    return section.model_copy(
        update={
            name: value if value.is_absolute() else Path(os.path.normpath(base / value))
            for name, value in found.items()
        }
    )


def _may_exist(path: Path | str) -> bool:
    """False of a file or folder that is not there; whether a URL or a pattern stands for something is seen when it is opened."""
    return not isinstance(path, Path) or path.exists() or bool(re.search(r"[*?\[{]", path.name))


def _absent(path: Path | str, what: str, known: list[str], origin: str | None) -> str:
    facts = f" ({', '.join(known)})" if known else ""
    return f"{path}: the recipe's {what} file or folder is not there{facts}" + (f"; {origin}" if origin else "")
