"""Inputs with which fuzzing has broken something, and the line in which each is told now."""

from __future__ import annotations

import io
import json
import logging
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuzz import binary, documents
from fuzz.targets import TARGETS, TYPED
from modelport import results
from modelport.data.predictions import Predictions
from modelport.data.source import open_source
from modelport.graph.classifier import SPEC_KEY
from modelport.measure.fp16 import Fp16Forecast
from modelport.recipe import Recipe
from modelport.schema import Record

DIGITS, NESTED = b"9" * 5000, b"[" * 2000
CONTRADICTS = "holds figures from which others cannot be computed"


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def changed(record: type[Record], change: Callable[[dict], object]) -> bytes:
    plain = documents.document(record)
    change(plain)
    return json.dumps(plain).encode()


def trace(*events: dict) -> bytes:
    return json.dumps([{"name": "model_run", "ts": 0, "dur": 9}, *events]).encode()


def with_metadata(value: bytes) -> bytes:
    """An ONNX file whose metadata has these bytes, which need not be UTF-8, instead of a text of the same length."""
    model = onnx.load_from_string(binary.onnx_files()[0])
    model.metadata_props.add(key=SPEC_KEY, value="A" * len(value))
    return model.SerializeToString().replace(b"A" * len(value), value)


def of_another_disk() -> bytes:
    """The end of a zip64 whose directory is said to be on disk 1."""
    place = struct.pack("<4sIQI", b"PK\6\7", 1, 0, 2)
    return place + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def op_summary(**cells: str) -> bytes:
    """Two operators, the first with these cells."""
    plain = {
        "Op Name": "a",
        "OP Type": "b",
        "Task Start Time(us)": "1",
        "Task Duration(us)": "1",
        "Input Shapes": "1,3,8,8",
    }
    rows = (plain.keys(), {**plain, **cells}.values(), plain.values())
    return "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows).encode()


def onnx_with(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load_from_string(binary.onnx_files()[0])
    change(model)
    return model.SerializeToString()


def table(**columns: object) -> bytes:
    """A predictions file with these columns instead, or without its metadata."""
    found = pq.read_table(io.BytesIO(binary.predictions()[1]))
    for name, values in columns.items():
        if name == "metadata":
            found = found.replace_schema_metadata(values)
        else:
            found = found.set_column(found.column_names.index(name), name, values)
    buffer = io.BytesIO()
    pq.write_table(found, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("target", "data", "message"),
    [
        ("labels", b"x " + DIGITS, r"val_label.txt:1: expected `name class` with a class from 0"),
        ("labels-json", b'{"image": ' + DIGITS + b"}", "not valid JSON"),
        ("labels-json", NESTED, "not valid JSON"),
        ("listing", b"file://c.pn[d.jpg", r"file://c\.pn\[d\.jpg: is no URL of a file \(Invalid IPv6 URL\)"),
        ("checkpoint", of_another_disk(), r"weights\.pth: is no whole checkpoint \(zipfiles that span multiple disks"),
        ("parquet", parquet(pa.table({"image": [b"x"], "key": ["a"]})).replace(b"key", b"k\xffy"), r"is no whole Parquet file \('utf-8'"),
        ("override", b"targets={" + b"[" * 8000, r"brackets are nested more than 100 deep"),
        ("parquet", parquet(pa.table({"key": [b"\xff"], "image": [b"x"]})), r"expected names as text in `key` and `image\.path`"),
        ("dump-npy", binary.npy_files()[-1], "a_0.npy: is an archive of arrays, expected one array"),
        ("dump-npy", b"PK\x03\x04", "a_0.npy: is an archive of arrays"),
        ("dump-npy", npy_header("{'descr': '<f4', 'shape': (1"), "a_0.npy: cannot be read as a NumPy array"),
        (
            "dump-npy",
            npy_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**40},)}}\n"),
            "a_0.npy: cannot be read as a NumPy array: mmap length is greater than file size",
        ),
        ("ais-npy", npy_header("{'descr': '<f4', 'shape': (1"), "one.npy: cannot be read as a NumPy array"),
        ("predictions", table(metadata=None), "is not a predictions file: b'classes'"),
        ("predictions", table(key=pa.array([1, 2])), "column key is int64, expected string"),
        ("predictions", table(key=pa.array([None, "b"])), "an image has no name"),
        ("predictions", table(top=pa.array(["ab", ""])), "column top is string, expected list<"),
        ("predictions", table(metadata={"classes": "3"}), "cannot reshape array of size 2"),
        ("input-shape", b"image:1,3,8," + DIGITS, "expected name:N,C,H,W such as"),
        ("override", b"data.limit=" + DIGITS, "not valid YAML"),
        ("override", b"data.limit=" + NESTED, "not valid YAML"),
        ("override", b"data" + b".a" * 2000 + b"=1", "holds a value that is not plain text, number or list"),
        ("devices", DIGITS, "expected different numbers from 0, such as 0 or 0,1,2,3"),
        ("numbers", DIGITS, "expected whole numbers from 1"),
        ("BenchResult", changed(results.BenchResult, lambda d: d["latencies_s"].clear()), CONTRADICTS),
        ("Fp16Forecast", changed(Fp16Forecast, lambda d: d["accuracy_fp16"].update(images=0)), CONTRADICTS),
        ("Fp16Forecast", changed(Fp16Forecast, lambda d: d["accuracy_fp16"].update(hits=[17])), CONTRADICTS),
        ("trace", trace({"name": 0.5, "ts": 1, "dur": 1}), "does not have the same operators in every round"),
        ("trace", trace({"name": "a_kernel_time", "ts": 1}), "profile cannot be read: KeyError: 'dur'"),
        ("trace", NESTED, "profile cannot be read: RecursionError"),
        ("onnx", with_metadata(b"\x8e" * 40), "metadata modelport.model: not valid JSON"),
        *(
            ("op-summary", op_summary(**{"Task Start Time(us)": start}), rf"Task Start Time\(us\) is '{start}', expected a number")
            for start in ("nan", "snan", "inf", "9e999999")
        ),
        ("op-summary", op_summary(**{"Input Shapes": "1," + "9" * 100}), "a shape is '1,9999"),
        ("op-summary", op_summary(**{"Input Shapes": ",".join(["9" * 9] * 40)}), "a shape is '999999999,"),
        ("onnx", onnx_with(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 126)), "is of the unknown type 126"),
        ("onnx", onnx_with(lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 33)), "is of the unknown type 33"),
        ("onnx", binary.onnx_files()[0].replace(b"features", b"\x8eeatures"), r"the name b'\\x8eeatures' in it is not UTF-8"),
        ("onnx", binary.onnx_files()[2].replace(b"weights.bin", b"\x8eeights.bin"), "in it is not UTF-8"),
        ("onnx", binary.onnx_files()[2].replace(b"weights.bin", b"wei\0hts.bin"), "outside the model's directory"),
        ("onnx-metadata", NESTED, "metadata modelport.model: not valid JSON"),
        ("onnx-metadata", DIGITS, "metadata modelport.model: not valid JSON"),
        ("manifest", b'{"format_version": ' + DIGITS + b"}", "manifest.json: "),
        ("manifest", NESTED, "manifest.json: not valid JSON"),
        ("trials", NESTED + b"\n", "trials.jsonl:1: is damaged"),
        ("ais-summary", NESTED, "exists and is no summary of ais_bench"),
    ],
)  # fmt: skip
def test_it_is_told_in_a_line(target, data, message):
    with pytest.raises(TYPED, match=message):
        TARGETS[target].parse(data)


def test_a_stage_without_workers_was_busy_for_no_share():
    stage = documents.document(results.StageStats) | {"workers": 0, "wall_s": -1}
    TARGETS["Outcome"].parse(json.dumps({"start": 0, "images": 1, "actor": "a", "stages": [stage]}).encode())


@pytest.mark.parametrize("target", ["parts-journal", "prepared"])
def test_a_journal_that_is_nested_too_deeply_is_begun_anew(target):
    TARGETS[target].parse(NESTED + b"\n")


def test_a_list_may_name_what_no_file_system_has(tmp_path):
    path = tmp_path / "list.info"
    path.write_text(f"0 {'a' * 5000} 1 1\n")

    assert len(open_source(path)) == 1


def test_a_number_of_classes_that_nothing_bears_out_takes_no_memory(tmp_path):
    """All images failed, and the file promises 10^12 scores of each."""
    columns = pq.read_table(io.BytesIO(binary.predictions()[1])).slice(1)
    path = tmp_path / "predictions.parquet"
    pq.write_table(columns.replace_schema_metadata({"classes": str(10**12)}), path)

    assert Predictions.read(path).scores.shape == (1, 10**12)


def test_a_home_that_is_nobodys_is_a_path_as_any_other(tmp_path):
    path = tmp_path / "recipe.yaml"
    plain = documents.document(Recipe) | {"targets": [{"engine": "openvino", "precision": "bf16"}]}
    plain["data"]["images"] = "~nobody-at-all/images"
    path.write_text(json.dumps(plain))

    assert Recipe.load(path).data.images == tmp_path / "~nobody-at-all/images"


def test_a_dump_in_another_byte_order_or_of_whole_numbers_is_read(tmp_path):
    from modelport.data.dump import read_scores

    for name, dtype in (("a_0.npy", ">f8"), ("b_0.npy", "<i4")):
        np.save(tmp_path / name, np.arange(6, dtype=dtype).reshape(2, 3))
        assert read_scores(Path(tmp_path / name)).tolist() == [0, 1, 2, 3, 4, 5]
