"""What LoadGen is told: MLPerf's own settings for image classification, and the `user.conf` that says what differs.

LoadGen carries MLPerf's configuration in itself and reads it for the benchmark `resnet50`; numbers that are not in `user.conf`
are MLCommons', not ours. The few that are repeated here are for people to read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..engines.session import SessionOptions
from ..results import Scenario

BENCHMARK = "resnet50"  # MLPerf's image classification
LOADED = 1024  # images in memory during a performance run (MLPerf's performance_sample_count)
SERVER_BOUND_MS = 15.0
_IMAGENET = 50_000
LEAST_MS = 600_000  # that a performance run lasts
_QUICK_MS = {"Offline": 1000, "SingleStream": 1000, "MultiStream": 1000, "Server": 2000}
_QUICK_QUERIES = {"Offline": 64, "SingleStream": 100, "MultiStream": 100, "Server": 200}
_QUICK_PERCENTILE = 90  # of MultiStream and Server: the 99th of MLPerf's takes at least 662 queries
# By which Offline's query is larger than expected, since one that ends too soon is INVALID; a quick run's pace is seen in 0.3 s only.
_MARGIN, _QUICK_MARGIN = 1.2, 3.0
# LoadGen makes twice as many queries as it expects to need; where they run out before the time, the run is INVALID.
_FASTER = 0.5
_LEAST_MS = 0.1  # no answer through Python is twice as fast; less would only make LoadGen prepare queries by the hundred million


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadGenOptions:
    """Which run.

    Attributes:
        scenario: how queries come: all at once, one after the other, in eights one after the other, or by chance.
        accuracy: each image once, for TopN, not for speed.
        quick: seconds instead of ten minutes. Unofficial, and told so wherever the result is.
        target_qps: of Server: queries a second; of Offline: images a second that are expected, measured if left out.
        target_latency_ms: of Server: the bound, whole milliseconds as LoadGen takes it; None is MLPerf's 15.
        limit: only the first N images.
        session: streams and threads; None leaves them to the scenario.
    """

    scenario: Scenario
    accuracy: bool = False
    quick: bool = False
    target_qps: float | None = None
    target_latency_ms: int | None = None
    limit: int | None = None
    session: SessionOptions = field(default_factory=SessionOptions)

    def __post_init__(self) -> None:
        if self.scenario == "Server" and self.target_qps is None:
            raise ValueError("the Server scenario needs target_qps, the queries a second that are to be answered")
        if self.scenario not in ("Server", "Offline") and self.target_qps is not None:
            raise ValueError(f"target_qps is for Server and Offline, not for {self.scenario}")
        if self.scenario != "Server" and self.target_latency_ms is not None:
            raise ValueError(f"target_latency_ms is for Server, not for {self.scenario}")
        for name in ("target_qps", "target_latency_ms", "limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the model turned out to be while it was warmed up.

    Attributes:
        rate: images a second, all streams at work.
        query_s: seconds of the fastest query of the scenario.
    """

    rate: float
    query_s: float


def user_conf(options: LoadGenOptions, images: int, pace: Pace) -> str:
    """The text of LoadGen's `user.conf`: how many images are loaded, what to expect, and what differs from MLPerf's settings."""
    scenario = options.scenario
    keys: dict[str, float] = {"performance_sample_count_override": min(images, LOADED)}
    if scenario == "Offline":
        margin = _QUICK_MARGIN if options.quick else _MARGIN
        keys["target_qps"] = options.target_qps or pace.rate * margin
    elif scenario == "Server":
        assert options.target_qps is not None
        keys["target_qps"] = options.target_qps
        if options.target_latency_ms is not None:
            keys["target_latency"] = options.target_latency_ms
    else:
        keys["target_latency"] = max(pace.query_s * 1e3 * _FASTER, _LEAST_MS)
    if options.quick:
        keys |= {"min_duration": _QUICK_MS[scenario], "min_query_count": _QUICK_QUERIES[scenario]}
        if scenario in ("MultiStream", "Server"):
            keys["target_latency_percentile"] = _QUICK_PERCENTILE
    lines = [f"{BENCHMARK}.{scenario}.{key} = {value:.10g}" for key, value in keys.items()]
    heading = "# Quick settings: an unofficial run.\n" if options.quick else ""
    return heading + "".join(f"{line}\n" for line in lines)


def deviations(options: LoadGenOptions, images: int, arch: str) -> tuple[str, ...]:
    """In which points a run is not what MLPerf asks for; `arch` is the network's name. Whether images are ImageNet's is not known."""
    return tuple(_deviations(options, images, arch))


def _deviations(options: LoadGenOptions, images: int, arch: str) -> Iterable[str]:
    scenario = options.scenario
    if options.quick and not options.accuracy:
        seconds, queries = _QUICK_MS[scenario] / 1000, _QUICK_QUERIES[scenario]
        least = f"{queries} samples" if scenario == "Offline" else f"{queries} queries"
        percentile = f", {_QUICK_PERCENTILE}th percentile not 99th" if scenario in ("MultiStream", "Server") else ""
        yield f"quick: at least {seconds:g} s and {least}, not 600 s{percentile}"
    if images != _IMAGENET:
        loaded = f", {LOADED:,} of them in memory" if images < LOADED else ""
        yield f"{images:,} images; MLPerf has ImageNet's {_IMAGENET:,}{loaded}"
    if options.limit is not None:
        yield f"only the first {options.limit:,} images"
    if options.target_latency_ms not in (None, SERVER_BOUND_MS):
        yield f"latency bound {options.target_latency_ms} ms, not {SERVER_BOUND_MS:g} ms"
    if not arch.startswith(BENCHMARK):
        yield f"the network is {arch}; MLPerf's is ResNet-50 v1.5"
