"""Results: figures derived from raw ones, JSON that is read back as it was written, unlike environments refused."""

from __future__ import annotations

import json
import math

import models
import numpy as np
import pytest
from scipy.stats import norm

from modelport.errors import FormatError
from modelport.results import (
    Accuracy,
    BadImage,
    BenchResult,
    Command,
    EndToEnd,
    Environment,
    Gate,
    GateCheck,
    InferResult,
    Interface,
    LatencySummary,
    Paired,
    Parity,
    ReferenceAccuracy,
    RunResult,
    StageStats,
    Target,
    TargetResult,
    require_comparable,
)
from modelport.spec import Precision

LATENCIES = tuple(np.random.default_rng(3).gamma(4.0, 0.002, size=101).tolist())


def make_environment(**changes: object) -> Environment:
    values = {
        "modelport": "0.1.0",
        "python": "3.12.1",
        "system": "Linux 6.1",
        "machine": "x86_64",
        "cpu": "Wonder 9000",
        "cpu_family": "wonder",
        "cpu_features": ("avx2", "avx512_bf16"),
        "cores": 4,
        "memory_bytes": 2**34,
        "packages": {"numpy": "2.0.0", "openvino": "2025.1"},
    }
    return Environment(**values | changes)


def make_target(**changes: object) -> Target:
    values = {
        "engine": "openvino",
        "engine_version": "2025.1",
        "precision": Precision.BF16,
        "executed_precision": Precision.BF16,
        "batch_size": 4,
        "streams": 1,
        "threads": 2,
    }
    return Target(**values | changes)


def make_bench(**changes: object) -> BenchResult:
    values = make_target().model_dump() | {
        "warmup_s": (0.5, 0.25),
        "latencies_s": LATENCIES,
        "wall_s": sum(LATENCIES),
        "environment": make_environment(),
    }
    return BenchResult(**values | changes)


def make_stage(name: str, busy: float, get: float, put: float, wall: float = 2.0) -> StageStats:
    return StageStats(
        name=name,
        workers=2,
        items=10,
        images=40,
        failures=1,
        busy_s=busy,
        blocked_get_s=get,
        blocked_put_s=put,
        finished_s=0.9 * wall,
        wall_s=wall,
    )


def make_inference() -> InferResult:
    return InferResult(
        **make_target().model_dump(),
        model=models.SPEC,
        images=40,
        failures=1,
        limit=None,
        source="images/",
        e2e=EndToEnd(throughput=20.0, wall_s=2.0),
        interface=Interface(throughput=50.0, busy_s=0.8),
        stages=(make_stage("decode", 3.0, 0.5, 0.5), make_stage("infer", 1.0, 3.0, 0.0)),
        bad_images=(BadImage(key="a.jpg", reason="truncated"),),
        environment=make_environment(),
    )


def make_accuracy(**changes: object) -> Accuracy:
    return Accuracy(**{"images": 40, "classes": 5, "hits": (30, 34, 36, 38, 40), "failed": 1} | changes)


def make_parity(**changes: object) -> Parity:
    values = {
        "against": "PyTorch 2.6",
        "samples": 8,
        "max_abs_error": 0.002,
        "mean_abs_error": 0.001,
        "scale": 4.0,
        "cosine": 0.9999,
        "top1_agreement": 1.0,
        "tolerance": 1e-3,
    }
    return Parity(**values | changes)


def make_gate(*passed: bool) -> Gate:
    checks = [
        GateCheck(name=f"check {number}", unit="points", reference=80.0, measured=79.5, limit=1.0, passed=each)
        for number, each in enumerate(passed)
    ]
    return Gate(tolerance_points=1.0, checks=tuple(checks))


def make_target_result(*passed: bool, performance: tuple[BenchResult, ...] = ()) -> TargetResult:
    return TargetResult(
        engine="openvino",
        engine_version="2025.1",
        precision=Precision.BF16,
        executed_precision=Precision.BF16,
        accuracy=make_accuracy(),
        parity=make_parity(),
        paired=Paired(against="PyTorch", images=40, changed=3, lost=2, gained=1, p_value=1.0),
        inference=make_inference(),
        performance=performance,
        gate=make_gate(*passed),
    )


def make_run(*targets: TargetResult) -> RunResult:
    return RunResult(
        name="tiny",
        started="2025-01-01T00:00:00+00:00",
        wall_s=12.5,
        recipe="name: tiny\n",
        model=models.SPEC,
        opset=18,
        onnx_sha256="ab" * 32,
        random_weights=False,
        export_parity=make_parity(),
        warnings=("look at this",),
        environment=make_environment(),
        images=40,
        source_name="PyTorch 2.6",
        source_accuracy=make_accuracy(),
        recorded=ReferenceAccuracy(source="the paper", top1=80.0, top5=95.0),
        information=(ReferenceAccuracy(source="a blog", top1=79.0),),
        targets=targets or (make_target_result(True, performance=(make_bench(),)),),
        commands=(Command(what="bench", part="performance", line="modelport bench out/model"),),
    )


RECORDS = {
    "environment": make_environment(),
    "target": make_target(),
    "bench": make_bench(),
    "stage": make_stage("read", 1.0, 0.25, 0.75),
    "infer": make_inference(),
    "accuracy": make_accuracy(),
    "parity": make_parity(tolerance=None),
    "gate": make_gate(True, False),
    "run": make_run(),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_json_is_read_back_as_it_was_written(tmp_path, record):
    path = tmp_path / "result.json"

    record.write(path)

    assert type(record).read(path) == record


def test_computed_fields_are_written_and_not_believed_when_read(tmp_path):
    path = tmp_path / "bench.json"
    bench = make_bench()
    bench.write(path)
    data = json.loads(path.read_text())

    assert data["rounds"] == 101
    assert data["warmup"] == 2
    assert data["throughput"] == pytest.approx(bench.throughput)
    assert data["latency_ms"]["p99"] == pytest.approx(bench.latency_ms.p99)

    path.write_text(json.dumps(data | {"throughput": 1e9, "rounds": 7}))

    assert BenchResult.read(path) == bench
    assert BenchResult.read(path).throughput == bench.throughput


def test_verdicts_are_written(tmp_path):
    path = tmp_path / "run.json"
    make_run(make_target_result(True, False)).write(path)
    data = json.loads(path.read_text())

    assert data["passed"] is False
    assert data["targets"][0]["gate"]["passed"] is False
    assert data["targets"][0]["accuracy"]["topn"] == [0.75, 0.85, 0.9, 0.95, 1.0]
    assert data["targets"][0]["parity"]["relative_error"] == 0.0005


def test_a_parity_of_nan_is_read_back_as_failed(tmp_path):
    path = tmp_path / "parity.json"
    make_parity(max_abs_error=math.nan, cosine=math.nan).write(path)

    found = Parity.read(path)

    assert math.isnan(found.max_abs_error)
    assert not found.passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda data: data.pop("opset"), "opset: is required", id="missing"),
        pytest.param(lambda data: data.update(format_version=2), r"format_version: .*got 2", id="version"),
        pytest.param(lambda data: data.update(format="other"), r'format: .*modelport\.run.*got "other"', id="format"),
        pytest.param(lambda data: data.update(wall_s="12"), r'wall_s: .*number, got "12"', id="type"),
        pytest.param(
            lambda data: data["targets"][0]["gate"]["checks"][0].pop("limit"),
            r"targets\.0\.gate\.checks\.0\.limit: is required",
            id="nested",
        ),
    ],
)
def test_a_result_that_does_not_fit_is_refused_by_place(tmp_path, change, message):
    path = tmp_path / "run.json"
    make_run().write(path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))

    with pytest.raises(FormatError, match=rf"run\.json: .*{message}"):
        RunResult.read(path)


def test_results_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        make_bench().wall_s = 1.0


def test_latency_summary_is_numpys():
    summary = LatencySummary.of(LATENCIES)
    ms = np.array(LATENCIES) * 1000

    assert summary.mean == pytest.approx(ms.mean())
    assert summary.max == pytest.approx(ms.max())
    for percent in (50, 90, 95, 99):
        assert getattr(summary, f"p{percent}") == pytest.approx(np.percentile(ms, percent))


def test_latency_summary_of_one_round():
    assert LatencySummary.of((0.004,)).model_dump() == pytest.approx(
        {"mean": 4.0, "p50": 4.0, "p90": 4.0, "p95": 4.0, "p99": 4.0, "max": 4.0}
    )


def test_bench_figures():
    bench = make_bench(latencies_s=(0.1, 0.2, 0.3), wall_s=0.75)

    assert bench.rounds == 3
    assert bench.throughput == pytest.approx(3 * 4 / 0.75)
    slow, fast = bench.throughput_spread
    assert slow == pytest.approx(4 / np.percentile([0.1, 0.2, 0.3], 90))
    assert fast == pytest.approx(4 / np.percentile([0.1, 0.2, 0.3], 10))
    assert bench.name == "openvino-bf16"


def test_stage_figures_name_the_limiting_stage():
    inference = make_inference()
    decode, infer = inference.stages

    assert decode.busy_share == pytest.approx(3.0 / (2 * 2.0))
    assert infer.busy_share == pytest.approx(1.0 / (2 * 2.0))
    assert decode.throughput == pytest.approx(40 * 2 / 3.0)
    assert inference.limiting_stage is decode


def with_cpu(**seconds: float) -> InferResult:
    """100 images in 2 s on 2 cores; processor time by stage, and a read that waits 0.5 s for the disk."""
    stages = tuple(
        make_stage(name, 0.5, 0.0, 0.0).model_copy(
            update={"images": 100, "workers": 1 if name == "read" else 2, "cpu_s": cpu, "on_cores": name != "read"}
        )
        for name, cpu in seconds.items()
    )
    result = make_inference()
    return result.model_copy(
        update={
            "images": 100,
            "stages": stages,
            "e2e": result.e2e.model_copy(update={"throughput": 40.0, "wall_s": 2.5}),
            "environment": make_environment(cores=2),
        }
    )


def test_what_stages_and_cores_allow_if_nothing_waits():
    result = with_cpu(read=0.1, decode=0.9, infer=3.0)
    assert result.bound == pytest.approx(2 * 100 / 4.0)  # the cores: 4 s of work on 2 of them
    assert [stage.capacity(2) for stage in result.stages] == pytest.approx([100 / 0.5, 2 * 100 / 0.9, 2 * 100 / 3.0])


def test_the_forecast_without_a_stage_frees_its_cores_and_keeps_the_efficiency():
    result = with_cpu(read=0.1, decode=0.9, infer=3.0)
    efficiency = 40 / 50
    assert result.without("infer") == pytest.approx(efficiency * 2 * 100 / 1.0)
    assert result.without("decode") == pytest.approx(efficiency * 2 * 100 / 3.1)


def test_the_forecast_stops_at_the_next_stage():
    """With inference gone the disk is what limits, whatever the cores could do."""
    result = with_cpu(read=0.01, decode=0.01, infer=3.0)
    assert result.without("infer") == pytest.approx(100 / 0.5 * 40 / (200 / 3.02))


def test_there_is_no_forecast_without_processor_times():
    """As in results of an earlier version."""
    result = with_cpu(read=0.0, decode=0.0, infer=0.0)
    assert (result.bound, result.without("infer")) == (None, None)


def test_a_stage_that_did_nothing_has_no_throughput():
    idle = make_stage("read", 0.0, 0.0, 0.0, wall=0.0)

    assert (idle.busy_share, idle.throughput) == (0.0, 0.0)


def test_accuracy_figures():
    accuracy = make_accuracy()
    share, n, z = 30 / 40, 40, norm.ppf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))

    assert accuracy.topn == (0.75, 0.85, 0.9, 0.95, 1.0)
    assert accuracy.interval95[0].low == pytest.approx(centre - half)
    assert accuracy.interval95[0].high == pytest.approx(centre + half)
    assert accuracy.interval95[4].high == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "relative", "passed"),
    [
        ({}, 0.0005, True),
        ({"max_abs_error": 0.004}, 0.001, True),
        ({"max_abs_error": 0.0041}, 0.001025, False),
        ({"tolerance": None, "max_abs_error": 4.0}, 1.0, True),
        ({"scale": 0.0, "max_abs_error": 0.5}, 0.5, False),
        ({"scale": 0.0, "max_abs_error": 0.0}, 0.0, True),
    ],
)
def test_parity_is_judged_by_its_share_of_the_largest_score(changes, relative, passed):
    parity = make_parity(**changes)

    assert parity.relative_error == pytest.approx(relative)
    assert parity.passed is passed


def test_gate_drop():
    with_reference = make_gate(True).checks[0]
    alone = GateCheck(name="error", unit="relative", reference=None, measured=1e-5, limit=1e-4, passed=True)

    assert with_reference.drop == pytest.approx(0.5)
    assert alone.drop == 1e-5


def test_a_run_passes_where_every_check_of_every_target_does():
    assert make_run(make_target_result(True, True), make_target_result()).passed
    assert not make_run(make_target_result(True, True), make_target_result(True, False)).passed
    assert make_run().preprocess == models.PREPROCESS


def test_best_is_the_batch_size_of_highest_throughput():
    slow = make_bench(batch_size=1, latencies_s=(0.1,), wall_s=0.1)
    fast = make_bench(batch_size=8, latencies_s=(0.2,), wall_s=0.2)

    assert make_target_result(performance=(slow, fast, slow)).best is fast
    assert make_target_result().best is None


def test_environment_differences_are_named():
    ours = make_environment()

    assert ours.differences(make_environment()) == []
    assert ours.differences(make_environment(cores=2)) == ["cores: 4, 2"]
    found = ours.differences(make_environment(cpu="Other", packages={"numpy": "2.0.0", "openvino": "2025.2"}))
    assert [line.partition(":")[0] for line in found] == ["cpu", "packages.openvino"]
    assert "Wonder 9000, Other" in found[0]


def test_a_package_difference_names_that_package_only():
    found = make_environment().differences(make_environment(packages={"numpy": "2.0.0", "openvino": "2025.2"}))

    assert "openvino" in found[0]
    assert "numpy" not in found[0]


def test_unlike_environments_are_refused_naming_the_differences():
    require_comparable(make_environment(), make_environment())

    with pytest.raises(FormatError, match=r"measured in unlike environments: cpu: Wonder 9000, Other; cores: 4, 2$"):
        require_comparable(make_environment(), make_environment(cores=2, cpu="Other"))
