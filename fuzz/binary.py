"""Formats that are no text: valid files made in code, and what reads them here."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from modelport.calibration import CalibrationRecord
from modelport.data.decode import Decoder
from modelport.data.fast import FastDecoder
from modelport.data.predictions import Prediction, Predictions, as_table, schema, writing
from modelport.data.source import Sample, open_source
from modelport.data.sources.index import INDEX_FILE, MEMBERS, MEMBERS_FILE
from modelport.graph import ClassifierGraph, read_classifier
from modelport.graph.classifier import SPEC_KEY
from modelport.graph.quantized import is_quantized, read_calibration
from modelport.graph.source import SourceGraph
from modelport.packing import pack
from modelport.spec import ModelSpec, Preprocess

from . import documents
from .scratch import scratch

_PREPROCESS = Preprocess(input_size=(3, 8, 8))
_SPEC = ModelSpec(arch="tiny", num_classes=2, preprocess=_PREPROCESS)


def npy_files() -> list[bytes]:
    """One image, a batch, scores; and an archive of two arrays."""
    found = []
    for shape in ((3, 4, 4), (2, 3, 4, 4), (1, 10)):
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(shape, np.float32))
        found.append(buffer.getvalue())
    return [*found, _archive()]


def _archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3), b=np.zeros(2))
    return buffer.getvalue()


def predictions() -> list[bytes]:
    """Two images, one of which failed; with all scores, and without."""
    nothing, top = np.empty(0, np.int32), np.array([1, 0], np.int32)
    rows = [
        Prediction(Sample("a.png", Path("a.png"), 1), top, np.float32([2, 1]), np.float32([1, 2]), content=bytes(32)),
        Prediction(Sample("b.png", Path("b.png")), nothing, nothing, None, "is damaged"),
    ]
    found = []
    for all_scores in (False, True):
        columns = schema(2, all_scores=all_scores)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "predictions.parquet"
            with writing(path, columns) as writer:
                writer.write(as_table(rows, columns))
            found.append(path.read_bytes())
    return found


def read_predictions(path: Path) -> None:
    """As `evaluate` does."""
    Predictions.read(path)


def images() -> list[bytes]:
    """A tiny one of every format and several modes."""
    pixels = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
    colour = Image.fromarray(pixels)
    made = [(colour, name) for name in ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")]
    made += [(colour.convert(mode), "PNG") for mode in ("L", "P", "RGBA", "1", "I;16")]
    found = []
    for image, name in [*made, (colour.convert("CMYK"), "JPEG"), (colour.convert("CMYK"), "TIFF")]:
        buffer = io.BytesIO()
        image.save(buffer, name)
        found.append(buffer.getvalue())
    return found


def decode(data: bytes) -> None:
    """By the exact path, then by the fast one."""
    _decoders()[0].pixels(data)
    _decoders()[1].pixels(data)


@cache
def _decoders() -> tuple[Decoder, Decoder]:
    return Decoder(_PREPROCESS), FastDecoder(_PREPROCESS)


def tar_files() -> list[bytes]:
    """Two images, one with a class, and a JSON member; and the other headers that a tar may have."""
    found = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
            for name, data in (
                ("a.jpg", b"image"),
                ("a.cls", b"7"),
                (f"{'n' * 90}/b.png", b"x"),
                ("b.json", b'{"label": 1}'),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        found.append(buffer.getvalue())
    return found


def parquet_files() -> list[bytes]:
    """As Hugging Face has it, two row groups; and bytes alone."""
    images = [{"bytes": b"image", "path": "a.jpg"}, {"bytes": None, "path": None}]
    found = []
    for table in (pa.table({"image": images, "label": [1, -1]}), pa.table({"key": ["a", "b"], "image": [b"1", b"2"]})):
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=1)
        found.append(sink.getvalue())
    return found


@cache
def _indexed() -> Path:
    """A folder of two images, packed."""
    home = scratch() / "indexed"
    (home / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (2, 2)).save(home / "images" / name)
    pack(open_source(home / "images"), home / "shards")
    return home / "shards"


def index_files() -> list[bytes]:
    """The index of packed images."""
    return [(_indexed() / INDEX_FILE).read_bytes()]


def member_files() -> list[bytes]:
    """What is where in the shards, as JSON, which is easier to change than Parquet; and as Parquet."""
    path = _indexed() / MEMBERS_FILE
    rows = [row | {"sha256": row["sha256"].hex()} for row in pq.read_table(path).to_pylist()]
    return [json.dumps(rows).encode(), path.read_bytes()]


def in_indexed_folder(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """What reads a folder of shards in which the file of this name holds the bytes."""

    def parse(data: bytes) -> object:
        path = _indexed() / name
        kept = path.read_bytes()
        try:
            path.write_bytes(_as_members(data) if name == MEMBERS_FILE else data)
            return read(_indexed())
        finally:
            path.write_bytes(kept)

    return parse


def _as_members(data: bytes) -> bytes:
    """Parquet from the rows, where they are rows that its columns can hold."""
    sink = io.BytesIO()
    try:
        rows = [row | {"sha256": bytes.fromhex(row["sha256"])} for row in json.loads(data)]
        pq.write_table(pa.Table.from_pylist(rows, MEMBERS), sink)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, pa.ArrowException):
        return data
    return sink.getvalue()


def _model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["features"], name="conv"),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["scores"], axis=1),
    ]
    kernel = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", ["N", 3, 8, 8]), ("scores", ["N", 2]))
    ]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], [kernel])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_files() -> list[bytes]:
    """A classifier with metadata and without, and one whose weights are in another file."""
    plain, stamped, external = _model(), _model(), _model()
    stamped.metadata_props.add(key=SPEC_KEY, value=_SPEC.model_dump_json())
    onnx.external_data_helper.set_external_data(external.graph.initializer[0], location="weights.bin")
    external.graph.initializer[0].ClearField("raw_data")
    return [model.SerializeToString() for model in (plain, stamped, external)]


def read_onnx(path: Path) -> None:
    """Its nodes, and all that is read of a file that is a classifier."""
    path.with_name("weights.bin").write_bytes(bytes(24))
    SourceGraph.read(path)
    read_classifier(path).resolve_spec(_PREPROCESS)
    is_quantized(path)
    read_calibration(path)


def metadata() -> list[bytes]:
    """What quantised files say of themselves, under both of our keys."""
    record = documents.document(CalibrationRecord)
    return [json.dumps([_SPEC.jsonable(), record]).encode(), json.dumps([None, record]).encode()]


def read_metadata(data: bytes) -> None:
    """An otherwise valid ONNX file with such metadata: two texts, or the same under both keys where the input is not a list."""
    try:
        found = json.loads(data)
        texts = [json.dumps(each) for each in found[:2]]
    except (ValueError, TypeError, KeyError, RecursionError):
        texts = [data.decode(errors="replace")] * 2
    model = _model()
    for key, text in zip((SPEC_KEY, "modelport.calibration"), texts, strict=False):
        model.metadata_props.add(key=key, value=text.encode(errors="replace").decode())
    path = scratch() / "metadata.onnx"
    path.write_bytes(model.SerializeToString())
    read_classifier(path)
    read_calibration(path)


@cache
def classifier_graph() -> ClassifierGraph:
    """The tiny classifier, read."""
    path = scratch() / "classifier.onnx"
    path.write_bytes(onnx_files()[1])
    return read_classifier(path)


def safetensors_files() -> list[bytes]:
    """Two tensors."""
    from safetensors.numpy import save

    return [save({"fc.weight": np.zeros((2, 3), np.float32), "fc.bias": np.zeros(2, np.float16)})]


def torch_files() -> list[bytes]:
    """A state_dict as torch writes it today, in a training checkpoint, and as torch wrote it before 1.6."""
    import torch

    state = {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}
    found = []
    for content, zipped in ((state, True), ({"state_dict": state, "epoch": 3}, True), (state, False)):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        found.append(buffer.getvalue())
    return found


def read_weights(path: Path) -> None:
    """The tensors by name."""
    from modelport.exporter.checkpoint import read_state

    read_state(path)
