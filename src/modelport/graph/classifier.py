"""An ONNX file read as an image classifier: one NCHW image input, one N x classes output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import onnx

from .. import files
from ..errors import FormatError
from ..printable import printable
from ..schema import parse_json
from ..spec import ModelSpec, Preprocess
from .precheck import read_model
from .text import dtype_name, refuse_other_than_text

SPEC_KEY = "modelport.model"  # metadata_props entry that holds the ModelSpec as JSON
_NO_PREPROCESS = (
    "carries no preprocessing: say how its images are prepared with --recipe, or with --preprocess imagenet, "
    "or with --crop-pct, --interpolation, --mean and --std"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierGraph:
    """Facts of a classifier's ONNX file, checked.

    Attributes:
        path: the file.
        sha256: its digest.
        opset: version of the default operator set.
        input_name, output_name: tensor names.
        batch_size: the fixed batch size, or None where the batch is dynamic.
        input_size: channels, height, width; height and width are None where dynamic.
        num_classes: width of the output, or None where the file does not say.
        spec: the ModelSpec in the metadata, or None.
    """

    path: Path
    sha256: str
    opset: int
    input_name: str
    output_name: str
    batch_size: int | None
    input_size: tuple[int, int | None, int | None]
    num_classes: int | None
    spec: ModelSpec | None

    def resolve_spec(
        self,
        preprocess: Preprocess | None,
        num_classes: int | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> ModelSpec:
        """The ModelSpec to compile with: what is given, else the metadata's.

        Raises:
            FormatError: there is no preprocessing, or they contradict the graph's own shapes.
        """
        preprocess = preprocess or (self.spec and self.spec.preprocess)
        if preprocess is None:
            raise FormatError(f"{self.path}: {_NO_PREPROCESS}")
        for axis, ours, theirs in zip("CHW", self.input_size, preprocess.input_size, strict=True):
            if ours is not None and ours != theirs:
                raise FormatError(
                    f"{self.path}: input {self.input_name!r} has {axis}={ours}, the preprocessing prepares {axis}={theirs}"
                )
        told = num_classes or (self.spec and self.spec.num_classes)
        if self.num_classes and told and told != self.num_classes:
            raise FormatError(f"{self.path}: output {self.output_name!r} has {self.num_classes} classes, not {told}")
        classes = self.num_classes or told
        if not classes:
            raise FormatError(
                f"{self.path}: output {self.output_name!r} does not say its number of classes: pass --num-classes"
            )
        spec = ModelSpec(
            arch=self.spec.arch if self.spec else printable(self.path.stem),
            num_classes=classes,
            checkpoint_sha256=self.spec.checkpoint_sha256 if self.spec else None,
            preprocess=preprocess,
        )
        return spec.named(class_names or (self.spec and self.spec.class_names))

    @property
    def default_preprocess(self) -> Preprocess | None:
        """What the metadata says of preparing images, if anything."""
        return self.spec.preprocess if self.spec else None

    def require_batch(self, batch_size: int) -> None:
        """Raise FormatError unless the graph can run at this batch size."""
        if self.batch_size not in (None, batch_size):
            raise FormatError(
                f"{self.path}: its batch is fixed at {self.batch_size}, cannot compile it for {batch_size}; "
                "export it with a dynamic batch"
            )


def read_classifier(path: Path) -> ClassifierGraph:
    """Read an ONNX file's structure (not its weights) and check that it is an image classifier.

    Raises:
        FormatError: not ONNX, or inputs and outputs are not those of an image classifier.
    """
    path = Path(path)
    model = _load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise FormatError(f"{path}: has {len(inputs)} inputs ({_names(inputs)}); an image classifier has one")
    if len(model.graph.output) != 1:
        raise FormatError(
            f"{path}: has {len(model.graph.output)} outputs ({_names(model.graph.output)}); an image classifier has one"
        )
    batch, *size = _input_shape(path, inputs[0])
    return ClassifierGraph(
        path=path,
        sha256=files.digest(path),
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        input_name=inputs[0].name,
        output_name=model.graph.output[0].name,
        batch_size=batch,
        input_size=tuple(size),
        num_classes=_output_classes(path, model.graph.output[0]),
        spec=_spec(path, model),
    )


def write_spec(path: Path, spec: ModelSpec) -> None:
    """Put a ModelSpec into an ONNX file's metadata, in place and atomically."""
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != SPEC_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=SPEC_KEY, value=json.dumps(spec.jsonable()))
    files.write_bytes(path, model.SerializeToString())


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        what = "is a directory, not an ONNX file" if path.is_dir() else "no such file"
        raise FormatError(f"{path}: {what}; `modelport export` makes an ONNX file")
    model = read_model(path)
    if not model.graph.node:
        raise FormatError(f"{path}: is not an ONNX file (it holds no operators)")
    refuse_other_than_text(path, model)
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise FormatError(f"{path}: is not a valid ONNX graph: {str(error).strip().splitlines()[0]}") from error
    return model


def _names(values: list[onnx.ValueInfoProto]) -> str:
    return ", ".join(value.name for value in values) or "none"


def _shape(value: onnx.ValueInfoProto) -> list[int | None] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim]


def _input_shape(path: Path, value: onnx.ValueInfoProto) -> list[int | None]:
    where = f"{path}: input {value.name!r}"
    shape, dtype = _shape(value), value.type.tensor_type.elem_type
    if dtype != onnx.TensorProto.FLOAT:
        hint = ": give the float32 file, --input uint8 makes it take pixels" if dtype == onnx.TensorProto.UINT8 else ""
        raise FormatError(f"{where} is {dtype_name(dtype)}; float32 is accepted{hint}")
    if shape is None or len(shape) != 4:
        raise FormatError(f"{where} has shape {_show(shape)}; N x channels x height x width is accepted")
    if shape[1] not in (1, 3):
        hint = " (it looks like NHWC: convert it to NCHW first)" if shape[3] in (1, 3) else ""
        raise FormatError(f"{where} has shape {_show(shape)}; the second axis must be 1 or 3 channels{hint}")
    return shape


def _output_classes(path: Path, value: onnx.ValueInfoProto) -> int | None:
    where = f"{path}: output {value.name!r}"
    shape, dtype = _shape(value), value.type.tensor_type.elem_type
    if dtype != onnx.TensorProto.FLOAT:
        raise FormatError(f"{where} is {dtype_name(dtype)}; float32 scores are accepted")
    if shape is not None and len(shape) != 2:
        raise FormatError(f"{where} has shape {_show(shape)}; N x classes is accepted")
    return shape[1] if shape else None


def _show(shape: list[int | None] | None) -> str:
    return "unknown" if shape is None else " x ".join("?" if dim is None else str(dim) for dim in shape) or "scalar"


def _spec(path: Path, model: onnx.ModelProto) -> ModelSpec | None:
    for entry in model.metadata_props:
        if entry.key == SPEC_KEY:
            where = f"{path}: metadata {SPEC_KEY}"
            return ModelSpec.parse(parse_json(entry.value, where), where)
    return None
