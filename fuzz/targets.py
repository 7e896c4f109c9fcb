"""Everything that reads what others wrote: a name, valid inputs to start from, and what reads one.

A target may raise ModelportError, and what reads values of the command line click's errors, which are told in a line as well.
Anything else is a finding, and so is a hang, an allocation beyond reason, or something read that is not written and read back
as it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from modelport import calibration, journal, offline, recipe, results, schema, spec, stages
from modelport.cli import shared, space
from modelport.cluster import shards
from modelport.data import class_names, dump, labels, op_csv, parts, source
from modelport.data.sources import index, place
from modelport.data.sources.index import INDEX_FILE, MEMBERS_FILE
from modelport.engines import atc, onnxruntime_trace
from modelport.errors import ModelportError
from modelport.guide import atc as guide_atc
from modelport.guide import performance, prepare
from modelport.guide.ais_bench import summary
from modelport.guide.ais_bench.inputs import FileInput
from modelport.history import loading, store
from modelport.history.compare import CompareOptions, compare_loaded
from modelport.measure import device_profile, fp16
from modelport.measure import journal as trials
from modelport.mlperf import answers, logs

from . import binary, documents
from .scratch import in_directory, in_file, scratch

TYPED = (ModelportError, click.UsageError)
TENSOR = offline.TensorSpec(name="image", dtype="float32", shape=(2, 3, 4, 4), layout="NCHW")


@dataclass(frozen=True, slots=True)
class Target:
    """One parser.

    Attributes:
        name: on the command line.
        seeds: makes inputs to start from; the first of them is valid.
        parse: reads one; what it returns is of no interest.
        slow: what reads it is mostly not Python, so that coverage hardly guides; time ends it rather than the number of inputs.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    parse: Callable[[bytes], object]
    slow: bool = False

    def refuses(self, data: bytes) -> bool:
        """Whether the input is refused, by an error with a type. Anything else that it raises is a finding."""
        try:
            self.parse(data)
        except TYPED:
            return True
        return False


def _texts(*seeds: str) -> Callable[[], list[bytes]]:
    return lambda: [seed.encode() for seed in seeds]


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """Text as a command line hands it over: bytes that are no UTF-8 become lone surrogates; it cannot hold a NUL."""
    return lambda data: read(data.replace(b"\0", b"").decode(errors="surrogateescape"))


def _record(kind: type[schema.Record]) -> Target:
    """A record's file. What is read can be written, and is then read as the same."""

    def read(path: Path) -> None:
        found = kind.read(path)
        found.write(path)
        again = kind.read(path)
        if again.jsonable() != found.jsonable() and not _has_nan(found):
            raise AssertionError(f"written and read back it is another: {found!r}, {again!r}")

    return Target(kind.__name__, lambda: [documents.text(kind)], in_file(f"{kind.__name__}/record.json", read))


def _has_nan(record: schema.Record) -> bool:
    return "NaN" in json.dumps(record.jsonable())


# --- data ---------------------------------------------------------------------------------------------------------------


_LABELS = _texts("ILSVRC2012_val_00000001.JPEG 65\nn01/a b.png 0\n\n", "\ufeffx 1\r\ny 2\r\n")
_JSON_LABEL = _texts('{"image": {"annotations": [{"category_id": 65}]}}')
_INFO = _texts("0 a/one.bin 224 224\n1 /b/two three.bin 64 64\n")
_SUMMARY = _texts(
    "Device_id,Model ID,Op Name,OP Type,Task Type,Task Start Time(us),Task Duration(us),Input Shapes,Input Data Types,"
    "Input Formats,Output Shapes,Output Data Types,Output Formats\n"
    '0,1,Conv_0,Conv2D,AI_CORE,1000.125\t,12.5,"""1,3,224,224;64,3,7,7""",FLOAT16;FLOAT16,NCHW;HWCN,"""1,64,112,112""",FLOAT16,'
    "NC1HWC0\n0,1,Relu_1,Relu,AI_VECTOR_CORE,1013\t,2,N/A,N/A,N/A,N/A,N/A,N/A\n",
    "Model Name,Op Name,OP Type,Task Start Time,Task Duration(us)\nm,Conv_0,Conv2D,1,12.5\nm,Conv_0,Conv2D,99,12.25\n",
)
_STATISTIC = _texts(
    "Device_id,OP Type,Core Type,Count,Total Time(us),Min Time(us),Avg Time(us),Max Time(us),Ratio(%)\n"
    "0,Conv2D,AI_CORE,2,24.5,12,12.25,12.5,90\n0,Relu,AI_VECTOR_CORE,1,2,2,2,2,10\n"
)


_CLASS_NAMES = _texts('["cat", "dog"]', '{"1": "dog", "0": ["n01", "cat"]}')
_LOADGEN_DETAIL = _texts(
    "".join(
        f':::MLLOG {{"key": "{key}", "value": {value}, "metadata": {{"is_error": false}}}}\n'
        for key, value in {
            "loadgen_version": '"6.0"',
            "effective_target_latency_percentile": 0.9,
            "effective_target_latency_ns": 15,
            "effective_samples_per_query": 1,
            "effective_min_query_count": 3,
            "effective_min_duration_ms": 600,
            "result_validity": '"INVALID"',
            "result_perf_constraints_met": "false",
            "result_min_duration_met": "false",
            "result_min_queries_met": "false",
            "early_stopping_met": "false",
            "result_query_count": 2,
            "result_samples_per_second": 3.5,
            "result_completed_samples_per_sec": 3.5,
            "result_90.00_percentile_latency_ns": 5,
            "result_90.00_percentile_per_query_latency_ns": 6,
        }.items()
    )
)
_LOADGEN_ANSWERS = _texts(json.dumps([{"seq_id": 0, "qsl_idx": 0, "data": answers.ANSWER.itemsize * "00"}]))


def _detail(path: Path) -> None:
    """All that a result takes from it."""
    log = logs.DetailLog(path)
    for scenario in ("Offline", "SingleStream", "MultiStream", "Server"):
        log.summary(scenario)


def _answers(path: Path) -> None:
    one = source.Source("here", (source.Sample("a.png", Path("a.png")),))
    list(answers.read_answers(path, one))


def _profile(path: Path) -> None:
    """All the way to the figures that are written."""
    device_profile.analyse_op_csv(path).jsonable()


def _expanded(text: str) -> None:
    with place.reporting("pattern"):
        place.expanded(f"{{0,1}}{text}")


def _read_all(path: Path) -> None:
    """Every image of a source, as a decoder reads it."""
    for sample in source.open_source(path):
        with suppress(ModelportError):
            sample.read()


DATA = (
    Target("labels", _LABELS, in_file("labels/val_label.txt", labels.read_labels)),
    Target("labels-json", _JSON_LABEL, in_directory("labels-json/one.json", labels.read_labels)),
    Target("class-names", _texts("cat\ndog\n", "\ufefftench\r\n"), in_file("class-names/names.txt", class_names.read_class_names)),
    Target("class-names-json", _CLASS_NAMES, in_file("class-names-json/names.json", class_names.read_class_names)),
    Target("loadgen-detail", _LOADGEN_DETAIL, in_file("loadgen-detail/mlperf_log_detail.txt", _detail)),
    Target("loadgen-accuracy", _LOADGEN_ANSWERS, in_file("loadgen-accuracy/mlperf_log_accuracy.json", _answers)),
    Target("info", _INFO, in_file("info/images.info", source.open_source)),
    Target("dump-txt", _texts("0.5 -1.25e-05 3 nan\n"), in_directory("dump-txt/a_1.txt", dump.read_dump)),
    Target("dump-bin", lambda: [bytes(40)], in_directory("dump-bin/a_1.bin", dump.read_dump)),
    Target("dump-npy", binary.npy_files, in_directory("dump-npy/a_0.npy", dump.read_dump)),
    Target("op-summary", _SUMMARY, in_file("op-summary/op_summary_0_1.csv", _profile)),
    Target("op-statistic", _STATISTIC, in_directory("op-statistic/op_statistic_0_1.csv", op_csv.read_op_statistic)),
    Target("pattern", _texts("x/{000..012}.tar", "{a,b}/{c,d}"), _text(_expanded), slow=True),  # each name is looked up
    Target("listing", _texts("a.jpg\nb/c.png\nfile:///d.jpg\n"), in_file("listing/images.txt", source.open_source)),
    Target("tar", binary.tar_files, in_file("tar/shard.tar", _read_all)),
    Target("parquet", binary.parquet_files, in_file("parquet/shard.parquet", _read_all), slow=True),
    Target("index", binary.index_files, binary.in_indexed_folder(INDEX_FILE, _read_all)),
    Target("members", binary.member_files, binary.in_indexed_folder(MEMBERS_FILE, _read_all)),
    Target("predictions", binary.predictions, in_file("predictions/predictions.parquet", binary.read_predictions), slow=True),
    Target("image", binary.images, binary.decode, slow=True),
)  # fmt: skip


# --- the guide's files ----------------------------------------------------------------------------------------------------

_REAL = _texts(
    "[e2e] throughputRate: 203.598, latency: 245582\n[data read] throughputRate: 216.393, moduleLatency: 4.62122\n"
    "[preprocess] throughputRate: 216.18, moduleLatency: 4.62577\n"
    "[infer] throughputRate: 204.451, Interface throughputRate: 304.088, moduleLatency: 4.24378\n"
    "[post] throughputRate: 204.451, moduleLatency: 4.89115\n"
)
_PURE = _texts("ave_throughputRate = 440.606samples/s, ave_latency = 2.304ms\n")
_ATC_LOG = _texts(
    "ATC start working now, please wait for a moment.\nATC run failed, Please check the detail log\n"
    "E10001: [PID: 12] 2024-01-01-10:00:00.000.000 Value [x] for parameter [--soc_version] is invalid.\n"
    "        Solution: Try again.\n        TraceBack (most recent call last):\n"
)
_PREPARED = _texts('{"a.bin": "00ff", "b.bin": null}\n{"c.bin": "11"}\n')
_GRAPH = binary.classifier_graph


def _load_all(directory: Path) -> None:
    files = FileInput(str(directory), TENSOR)
    for batch in files.batches:
        files.assemble(files.load(batch))


GUIDE = (
    Target("performance", _REAL, in_file("performance/perf.txt", performance.RealDataPerformance.read)),
    Target("pure-performance", _PURE, in_file("pure-performance/perf.txt", performance.PureInference.read)),
    Target("input-shape", _texts("image:1,3,8,8"), _text(lambda text: guide_atc._batch_size(text, _GRAPH()))),
    Target("atc-log", _ATC_LOG, _text(atc.explain)),
    Target("prepared", _PREPARED, _text(lambda text: prepare._listed(text.splitlines()))),
    Target("ais-npy", binary.npy_files, in_directory("ais-npy/one.npy", _load_all)),
    Target("ais-summary", _texts('{"npu_compute_time_list": [1.5]}'), in_file("ais-summary/s.json", summary.refuse_foreign_summary)),
)  # fmt: skip


# --- recipes and the command line -------------------------------------------------------------------------------------------


def _recipes() -> list[bytes]:
    home = Path(__file__).parents[1] / "recipes"
    made = documents.document(recipe.Recipe) | {"targets": [{"engine": "openvino", "precision": "bf16"}]}
    return [json.dumps(made).encode(), (home / "digits.yaml").read_bytes()]


def _override(text: str) -> None:
    key, value = recipe.parse_override(text)
    path = scratch() / "override.yaml"
    if not path.exists():
        path.write_bytes(_recipes()[0])
    recipe.Recipe.load(path, {key: value})


def _option(read: Callable[..., object]) -> Callable[[bytes], object]:
    option = click.Option(["--option"])
    context = click.Context(click.Command("fuzz"))
    return _text(lambda text: read(context, option, text))


COMMAND_LINE = (
    Target("recipe", _recipes, in_file("recipe/recipe.yaml", recipe.Recipe.load)),
    Target("override", _texts("performance.rounds=5", "targets=[{engine: onnxruntime}]", "data.limit=3"), _text(_override)),
    Target("devices", _texts("0,1,2"), _option(shared.device_numbers)),
    Target("numbers", _texts("1,4,8"), _option(space._list(space._number))),
    Target("threads", _texts("auto,4"), _option(space._list(space._threads))),
    Target("mean", _texts("0.485,0.456,0.406"), _text(lambda text: shared._numbers("mean", text))),
)  # fmt: skip


# --- records, journals, models ----------------------------------------------------------------------------------------------


@contextmanager
def _anew(path: Path) -> Iterator[Path]:
    """The file as it is; what reading it writes beside is removed."""
    try:
        yield path
    finally:
        for beside in path.parent.iterdir():
            if beside != path:
                beside.unlink()


def _parts(path: Path) -> None:
    with _anew(path), journal.open_journal(path) as file:
        found = parts.Parts(path.parent.parent, file, parts.Subject(what={"model": "text"}), path.with_name("none"))
        _ = found.spent, found.take_up(source.Source("", ()), 1)


def _trials(path: Path) -> None:
    with (
        _anew(path),
        trials.journal(path.parent, results.SweepSubject.model_validate(documents.document(results.SweepSubject))),
    ):
        pass


def _journals(*kinds: type[schema.Record]) -> Callable[[], list[bytes]]:
    return lambda: [b"\n".join([*map(documents.text, kinds), b""])]


def _manifests() -> list[bytes]:
    plain = documents.document(offline.Manifest)
    return [json.dumps(plain | {"files": {"weights": hashlib.sha256(b"weights").hexdigest()}}).encode()]


def _offline_model(path: Path) -> None:
    path.with_name("weights").write_bytes(b"weights")
    model = offline.OfflineModel.load(path.parent)
    _ = model.label, model.calibrated_with({})


_TRACE = _texts(
    json.dumps(
        [
            {"name": name, "ts": ts, "dur": dur, "args": {"op_name": "Conv", "node_index": "0"}}
            for name, ts, dur in [
                ("model_run", 0, 9),
                ("a_kernel_time", 1, 2),
                ("model_run", 10, 9),
                ("a_kernel_time", 12, 3),
            ]
        ]
    )
)


def _compared(path: Path) -> None:
    """All the way to an entry of the history, and to a comparison."""
    found = loading.load_path(path)
    store.content_id(found.entry)
    compare_loaded(found, found, CompareOptions()).jsonable()


_COMPARED = (results.RunResult, results.BenchResult, results.SweepResult, results.TuneResult)
RECORDS = (
    Target("compared", lambda: [*map(documents.text, _COMPARED)], in_file("compared/result.json", _compared)),
    *map(
        _record,
        (
            *(results.RunResult, results.InferResult, results.BenchResult, results.ProfileResult, results.DiffResult),
            *(results.OptimizationResult, results.SweepResult, results.TuneResult, results.Parity, fp16.Fp16Forecast),
            *(calibration.CalibrationRecord, spec.ModelSpec, stages._State),
            *(results.LoadGenResult, results.Classification, results.Diagnosis),
            *(index.Index, shards.Outcome, results.ScalePlan),
        ),
    ),
    Target("manifest", _manifests, in_file("manifest/manifest.json", _offline_model)),
    Target("parts-journal", _journals(parts.Subject, parts.Part, parts.Finished), in_file(f"run/{parts.JOURNAL}", _parts)),
    Target("trials", _journals(results.SweepSubject, results.Trial), in_file(f"trials/{trials.TRIALS_FILE}", _trials)),
    Target("trace", _TRACE, in_file("trace/trace.json", lambda path: onnxruntime_trace.read_trace(path, 1))),
    Target("onnx", binary.onnx_files, in_file("onnx/model.onnx", binary.read_onnx)),
    Target("onnx-metadata", binary.metadata, binary.read_metadata),
    Target("safetensors", binary.safetensors_files, in_file("weights/weights.safetensors", binary.read_weights), slow=True),
    Target("checkpoint", binary.torch_files, in_file("checkpoint/weights.pth", binary.read_weights), slow=True),
)  # fmt: skip

TARGETS = {target.name: target for target in (*DATA, *GUIDE, *COMMAND_LINE, *RECORDS)}
