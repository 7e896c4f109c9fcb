"""OfflineModel: a directory that holds one compiled classifier and a manifest that says exactly what it is."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, field_validator, model_serializer

from . import __version__, files, limits
from .calibration import CALIBRATION_FILE, Calibration, CalibrationRecord
from .errors import FormatError
from .origin import Origin
from .schema import Record, parse_json, read_text
from .spec import ModelSpec, Precision

MANIFEST = "manifest.json"
FORMAT_VERSION = 2  # written where the classes have names; without them it is 1, as earlier versions read it


class EngineVersion(Record):
    """The engine that compiled the model, and the version of its runtime."""

    name: str
    version: str


class PrecisionPair(Record):
    """Precision asked for, and the one that the compiled model's heavy operators really run in.

    `rest` is what the operators that int8 leaves are compiled for; None in another precision.
    """

    requested: Precision
    executed: Precision
    rest: Precision | None = None


class TensorSpec(Record):
    """One input or output. `shape` is static, batch first; `layout` names its axes, such as NCHW or NC."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str


class HostFingerprint(Record):
    """The processor that the model was compiled for: machine type, CPU name, instruction-set features, sorted."""

    machine: str
    cpu: str
    features: tuple[str, ...]


class GpuFingerprint(Record):
    """The GPU that the model was compiled on: its name, its architecture (such as sm_90), which is the only one it runs on, and
    the version of its driver then."""

    name: str
    architecture: str
    driver: str


class Manifest(Record):
    """`manifest.json`. Every file of the directory is listed with its sha256; nothing else may lie there.

    `device` is the accelerator that it was compiled for, such as Ascend310; None for the processor in `host`.
    `calibration` is how it was quantised; None where it was not, or not by modelport. `gpu` is there where it was compiled for
    one, and `settings` where its compiler had options: which were on.
    """

    format: Literal["modelport.offline-model"] = "modelport.offline-model"
    format_version: Literal[1, 2] = 1
    modelport_version: str = __version__
    engine: EngineVersion
    precision: PrecisionPair
    batch_size: int
    input: TensorSpec
    output: TensorSpec
    model: ModelSpec
    onnx_sha256: str
    host: HostFingerprint | None
    device: str | None = None
    calibration: Calibration | None = None
    gpu: GpuFingerprint | None = None
    settings: dict[str, bool] = Field(default_factory=dict)
    files: dict[str, str]

    @property
    def compiled_for(self) -> str | None:
        """The GPU and its arithmetic in words; None where it was compiled for a processor."""
        if self.gpu is None:
            return None
        tf32 = "on" if self.settings.get("tf32") else "off"
        return f"{self.gpu.name} ({self.gpu.architecture}, driver {self.gpu.driver}), TF32 {tf32}"

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Earlier versions read the models of other engines, and know no such keys."""
        data = serialize(self)
        return {key: value for key, value in data.items() if value or key not in ("gpu", "settings")}

    @field_validator("files")
    @classmethod
    def _plain_names(cls, value: dict[str, str], _: ValidationInfo) -> dict[str, str]:
        for name in value:
            if name != os.path.basename(name) or "\\" in name or name in ("", ".", "..", MANIFEST):
                raise ValueError(f"{name!r} is not a plain file name inside the offline model")
        return value

    @field_validator("input", "output")
    @classmethod
    def _sane_size(cls, value: TensorSpec) -> TensorSpec:
        if min(value.shape, default=0) < 1 or 4 * math.prod(value.shape) > limits.BATCH_BYTES:
            raise ValueError(f"{value.name!r} has shape {list(value.shape)[:8]}, which no batch of a classifier has")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineModel:
    """An offline model on disk whose manifest and files have been verified."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Path of one of the manifest's files."""
        if name not in self.manifest.files:
            raise FormatError(f"{self.path}: the manifest lists no file {name!r}; compile the model again")
        return self.path / name

    def calibrated_with(self, images: Mapping[str, Origin]) -> list[str]:
        """Which of the images (name: place) were used to calibrate this model, by their content."""
        if CALIBRATION_FILE not in self.manifest.files:
            return []
        return CalibrationRecord.read(self.file(CALIBRATION_FILE)).overlap(images)

    @property
    def tensors(self) -> tuple[TensorSpec, TensorSpec]:
        """Its input and its output."""
        return self.manifest.input, self.manifest.output

    @property
    def label(self) -> str:
        """Short name for tables: engine, executed precision, an input other than float32, batch size."""
        m = self.manifest
        pixels = "" if m.input.dtype == "float32" else f"{m.input.dtype} "
        return f"{m.engine.name} {m.precision.executed} {pixels}batch {m.batch_size}"

    @classmethod
    def load(cls, path: Path) -> OfflineModel:
        """Read and verify an offline model.

        Raises:
            FormatError: it is no offline model, was written by a newer modelport, or one of its files was changed.
        """
        path = Path(path)
        manifest_path = path / MANIFEST
        if not manifest_path.is_file():
            what = (
                "has no manifest.json" if path.is_dir() else "is not a directory" if path.exists() else "does not exist"
            )
            raise FormatError(f"{path}: is not an offline model ({what}); `modelport compile` makes one")
        _refuse_newer(manifest_path)
        manifest = Manifest.read(manifest_path)
        entries = list(path.iterdir())
        if link := next((entry.name for entry in entries if entry.is_symlink()), None):
            raise FormatError(f"{path}: {link!r} is a link, and an offline model holds its own files; copy them")
        found = {entry.name for entry in entries} - {MANIFEST}
        if extra := sorted(found - set(manifest.files)):
            raise FormatError(f"{path}: holds {extra[0]!r}, which its manifest does not list; compile the model again")
        for name, expected in manifest.files.items():
            if not (path / name).is_file():
                raise FormatError(f"{path}: {name} is missing; compile the model again")
            actual = files.digest(path / name)
            if actual != expected:
                raise FormatError(
                    f"{path / name}: was changed since it was compiled (sha256 {actual[:12]}…, "
                    f"manifest {expected[:12]}…); compile the model again"
                )
        return cls(path=path, manifest=manifest)

    @classmethod
    def save(cls, path: Path, write: Callable[[Path], Manifest], *, force: bool = False) -> OfflineModel:
        """Let `write` fill a temporary directory and say its manifest; then move it to `path` in one step."""
        with files.new_directory(path, marker=MANIFEST, force=force) as directory:
            manifest = write(directory)
            manifest.write(directory / MANIFEST)
        return cls(path=Path(path), manifest=manifest)


def _refuse_newer(path: Path) -> None:
    """A newer format may have keys that this version would only call unknown."""
    try:
        version = parse_json(read_text(path), str(path)).get("format_version")
    except (FormatError, AttributeError):
        return  # whatever it is, reading it as a manifest will say
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise FormatError(
            f"{path}: was written by a newer modelport (format {version}, this one reads {FORMAT_VERSION}); upgrade"
        )
