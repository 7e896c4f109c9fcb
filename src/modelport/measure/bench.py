"""Pure inference: one prepared batch, again and again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from ..engines import load
from ..engines.base import Session, SessionOptions
from ..exclusive import warn_if_busy, watch
from ..host import environment
from ..offline import OfflineModel
from ..progress import Progress, silent
from ..results import BenchResult
from ..work import describe


def bench(
    model: OfflineModel | Path | str,
    *,
    rounds: int = 50,
    warmup: int = 5,
    options: SessionOptions | None = None,
    progress: Progress = silent,
) -> BenchResult:
    """Measure an offline model on random input.

    Args:
        model: an offline model or its directory.
        rounds: counted batches, at least 1.
        warmup: batches run before, whose latencies are kept apart.
        options: streams (batches at once) and threads.
        progress: called as rounds are done.

    Returns:
        Raw latencies, and from them throughput and percentiles.
    """
    if rounds < 1 or warmup < 0:
        raise ValueError(f"rounds must be at least 1 and warmup at least 0, got {rounds} and {warmup}")
    if not isinstance(model, OfflineModel):
        model = OfflineModel.load(Path(model))
    options = options or SessionOptions()
    with watch() as watched, load(model.manifest.engine.name).open(model, options) as session:
        batch = session.random_batch()
        before, _ = run_rounds(session, batch, warmup, partial(silent, ""))
        counted, wall = run_rounds(session, batch, rounds, partial(progress, f"bench {model.label}"))
    warn_if_busy(f"bench {model.label}", watched.hygiene)
    return BenchResult(
        **describe(model, options).model_dump(),
        warmup_s=before,
        latencies_s=counted,
        wall_s=wall,
        environment=environment(),
        hygiene=watched.hygiene,
    )


def run_rounds(
    session: Session, batch: np.ndarray, count: int, progress: Callable[[int, int], None]
) -> tuple[tuple[float, ...], float]:
    """Latency of each round and the wall time of all; as many at once as the session has slots."""
    latencies: list[float] = []

    def one(_: int) -> None:
        start = perf_counter()
        session.infer(batch)
        latencies.append(perf_counter() - start)
        progress(len(latencies), count)

    begin = perf_counter()
    if session.slots == 1:
        for number in range(count):
            one(number)
    else:
        with ThreadPoolExecutor(session.slots) as pool:
            list(pool.map(one, range(count)))
    return tuple(latencies), perf_counter() - begin
