"""What LoadGen is told: MLPerf's own settings where the run is not quick, read back from LoadGen itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from modelport.mlperf.settings import LoadGenOptions, Pace, deviations, user_conf

PACE = Pace(rate=100.0, query_s=0.01)

QUICK = {"scenario": "Server", "target_qps": 5.0, "target_latency_ms": 80, "quick": True, "accuracy": True}
SCENARIOS = {
    "Offline": (
        {},
        {"min_query_count": 24_576, "offline_expected_qps": 120.0, "performance_sample_count_override": 1024},
    ),
    "SingleStream": (
        {},
        {"single_stream_target_latency_percentile": 0.9, "single_stream_expected_latency_ns": 5e6},
    ),
    "MultiStream": (
        {},
        {
            "multi_stream_samples_per_query": 8,
            "multi_stream_target_latency_percentile": 0.99,
            "min_query_count": 662,
            "multi_stream_expected_latency_ns": 5e6,
        },
    ),
    "Server": (
        {"target_qps": 70.0},
        {
            "server_target_latency_ns": 15_000_000,
            "server_target_latency_percentile": 0.99,
            "server_target_qps": 70.0,
        },
    ),
}

# LoadGen takes MLPerf's settings up once in a process, so each look is a process of its own, as each run is.
LOOK = """
import json, os, sys
from pathlib import Path
from modelport.mlperf.drive import _settings
from modelport.mlperf.settings import LoadGenOptions, Pace, user_conf
for given in json.loads(sys.argv[1]):
    if os.fork() == 0:
        options = LoadGenOptions(**given)
        found = _settings(Path(sys.argv[2]), user_conf(options, 50_000, Pace(100.0, 0.01)), options)
        names = [name for name in dir(found) if not name.startswith("_") and name not in ("FromConfig", "mode", "scenario")]
        values = {name: getattr(found, name) for name in names}
        print(json.dumps(values | {"mode": found.mode.name, "scenario": found.scenario.name}), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> list[dict]:
    """What LoadGen has taken up: of each scenario, and of the quick one."""
    given = [*({"scenario": name} | more for name, (more, _) in SCENARIOS.items()), QUICK]
    words = [sys.executable, "-c", LOOK, json.dumps(given), str(tmp_path_factory.mktemp("settings"))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_mlperfs_settings_are_loadgens_own(told, scenario):
    found, expected = told[list(SCENARIOS).index(scenario)], SCENARIOS[scenario][1]
    assert {name: found[name] for name in expected} == expected
    assert (found["min_duration_ms"], found["mode"], found["scenario"]) == (600_000, "PerformanceOnly", scenario)
    assert found["qsl_rng_seed"] != 0  # each of MLPerf's rounds has seeds of its own


def test_quick_and_accuracy(told):
    found = told[-1]
    assert (found["mode"], found["min_duration_ms"], found["min_query_count"]) == ("AccuracyOnly", 2000, 200)
    assert (found["server_target_latency_ns"], found["server_target_latency_percentile"]) == (80_000_000, 0.9)


def test_few_images_are_all_loaded():
    assert "resnet50.Offline.performance_sample_count_override = 20\n" in user_conf(
        LoadGenOptions(scenario="Offline"), 20, PACE
    )


def test_a_model_that_takes_microseconds_does_not_make_loadgen_prepare_a_billion_queries():
    conf = user_conf(LoadGenOptions(scenario="SingleStream"), 20, Pace(1e6, 1e-6))
    assert "resnet50.SingleStream.target_latency = 0.1\n" in conf


def test_only_what_differs_is_a_deviation():
    assert deviations(LoadGenOptions(scenario="Offline"), 50_000, "resnet50") == ()
    found = deviations(LoadGenOptions(scenario="MultiStream", quick=True, limit=20), 20, "tiny")
    assert found == (
        "quick: at least 1 s and 100 queries, not 600 s, 90th percentile not 99th",
        "20 images; MLPerf has ImageNet's 50,000, 1,024 of them in memory",
        "only the first 20 images",
        "the network is tiny; MLPerf's is ResNet-50 v1.5",
    )
    assert deviations(LoadGenOptions(scenario="Offline"), 2000, "resnet50d") == (
        "2,000 images; MLPerf has ImageNet's 50,000",
    )
    assert deviations(LoadGenOptions(scenario="Server", target_qps=1, target_latency_ms=15), 50_000, "resnet50") == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "Server"}, "the Server scenario needs target_qps"),
        ({"scenario": "SingleStream", "target_qps": 3.0}, "target_qps is for Server and Offline, not for SingleStream"),
        ({"scenario": "Offline", "target_latency_ms": 3.0}, "target_latency_ms is for Server, not for Offline"),
        ({"scenario": "Offline", "target_qps": 0.0}, "target_qps must be above 0, got 0"),
        ({"scenario": "Offline", "limit": 0}, "limit must be above 0, got 0"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        LoadGenOptions(**options)
