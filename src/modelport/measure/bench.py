"""Pure inference: one prepared batch, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock
from time import perf_counter

import numpy as np

from ..engines import load
from ..engines.session import Session, SessionOptions
from ..exclusive import warn_if_busy, watch
from ..host import environment, pinned
from ..offline import OfflineModel
from ..progress import Progress, silent
from ..results import BenchResult, DeviceStats
from ..work import describe

LEAST_ROUNDS, MOST_ROUNDS, SECONDS = 30, 1000, 1.0  # where the caller does not say how many


def bench(
    model: OfflineModel | Path | str,
    *,
    rounds: int | None = None,
    warmup: int = 5,
    options: SessionOptions | None = None,
    progress: Progress = silent,
) -> BenchResult:
    """Measure an offline model on random input.

    Args:
        model: an offline model or its directory.
        rounds: counted batches, at least 1; None is as many as a second takes, at least 30 and at most 1,000: where batches are
            short, a median over less than that wanders by several per cent.
        warmup: batches run before, whose latencies are kept apart.
        options: streams (batches at once) and threads.
        progress: called as rounds are done.

    Returns:
        Raw latencies, and from them throughput and percentiles.
    """
    if (rounds is not None and rounds < 1) or warmup < 0:
        raise ValueError(f"rounds must be at least 1 and warmup at least 0, got {rounds} and {warmup}")
    if not isinstance(model, OfflineModel):
        model = OfflineModel.load(Path(model))
    options = options or SessionOptions()
    with watch() as watched, load(model.manifest.engine.name).open(model, options) as session:
        batch = session.random_batch()
        before, _ = run_rounds(session, batch, warmup, partial(silent, ""))
        alone = _alone(session, batch, rounds)
        latencies, wall = _run_on_devices(session, batch, rounds, partial(progress, f"bench {model.label}"))
        by_device = _by_device(session, latencies, wall)
    warn_if_busy(f"bench {model.label}", watched.hygiene)
    return BenchResult(
        **describe(model, options).model_dump(),
        warmup_s=before,
        latencies_s=tuple(chain(*latencies.values())),
        wall_s=wall,
        environment=environment(),
        hygiene=watched.hygiene,
        by_device=by_device,
        alone=alone,
    )


def run_rounds(
    session: Session, batch: np.ndarray, count: int | None, progress: Callable[[int, int], None]
) -> tuple[tuple[float, ...], float]:
    """Latency of each round and the wall time of all; as many at once as the session has slots. No count is as of `bench`."""
    latencies, wall = _run_on_devices(session, batch, count, progress)
    return tuple(chain(*latencies.values())), wall


def _run_on_devices(
    session: Session, batch: np.ndarray, count: int | None, progress: Callable[[int, int], None]
) -> tuple[dict[str, list[float]], float]:
    """Latencies by device, and the wall time of all rounds. Each takes the next round whenever a slot of it is free."""
    latencies: dict[str, list[float]] = {name: [] for name in session.by_device}
    places = [part for part in session.by_device.values() for _ in range(part.slots)]
    begin, taking = perf_counter(), Lock()
    rounds = iter(range(count)) if count is not None else _a_second(begin)

    def work(part: Session) -> None:
        own = latencies[part.device]
        with pinned(part.cores):
            while True:
                with taking:
                    if next(rounds, None) is None:
                        return
                start = perf_counter()
                part.infer(batch)
                own.append(perf_counter() - start)
                done = sum(map(len, latencies.values()))
                progress(done, count or _expected(done, perf_counter() - begin))

    if len(places) == 1:
        work(places[0])
    else:
        with ThreadPoolExecutor(len(places)) as pool:
            list(pool.map(work, places))
    return latencies, perf_counter() - begin


def _a_second(begin: float) -> Iterator[int]:
    """Rounds until a second has passed, within the bounds."""
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and perf_counter() - begin >= SECONDS:
            return
        yield number


def _expected(done: int, elapsed: float) -> int:
    """How many rounds it will be."""
    return max(done, LEAST_ROUNDS, min(MOST_ROUNDS, round(done * SECONDS / max(elapsed, 1e-9))))


def _by_device(session: Session, latencies: dict[str, list[float]], wall: float) -> tuple[DeviceStats, ...]:
    return tuple(
        DeviceStats(
            name=name,
            images=len(latencies[name]) * session.batch_size,
            busy_s=sum(latencies[name]) / part.slots,
            wall_s=wall,
        )
        for name, part in session.by_device.items()
    )


def _alone(session: Session, batch: np.ndarray, rounds: int | None) -> float | None:
    """Images a second of the first of several devices while the others rest; None where there is one."""
    if len(session.by_device) == 1:
        return None
    first = next(iter(session.by_device.values()))
    each = None if rounds is None else max(1, rounds // len(session.by_device))
    latencies, wall = run_rounds(first, batch, each, partial(silent, ""))
    return len(latencies) * session.batch_size / wall
