"""The compiler's options measured, and the fastest package kept."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from ..errors import CompileError
from .facts import PackageFacts
from .package import PackageOptions, build_package
from .runner import Runner, RunnerOptions, open_runner

_TURNS, _TURN_S = 7, 0.2


@dataclass(frozen=True, slots=True)
class Measured:
    """What was tried, the fastest first.

    Attributes:
        facts: of the package that was kept.
        tried: settings and seconds of a batch (one for each turn) of each that could be built.
        failed: settings and reason of the others.
    """

    facts: PackageFacts
    tried: tuple[tuple[dict[str, bool], tuple[float, ...]], ...]
    failed: tuple[tuple[dict[str, bool], str], ...]

    def text(self) -> str:
        """As one JSON document."""
        tried = [
            {"settings": settings, "median_s": statistics.median(seconds), "seconds": seconds}
            for settings, seconds in self.tried
        ]
        failed = [{"settings": settings, "reason": reason} for settings, reason in self.failed]
        return json.dumps({"kept": self.facts.settings, "tried": tried, "failed": failed}, indent=2) + "\n"


def fastest_package(
    network: Any, shape: tuple[int, int, int, int], path: Path, options: PackageOptions, name: str | None = None
) -> Measured:
    """Build a package with each sensible set of options, time them in turn on this device, and keep the fastest.

    Computing alone is timed, without copies: rounds of each take turns, so that a busy moment does not decide.

    Args, raises: as `build_package`; a set that cannot be built is passed over unless none can.
    """
    built: dict[Path, PackageFacts] = {}
    failed: list[tuple[dict[str, bool], str]] = []
    error: CompileError | None = None
    with TemporaryDirectory(prefix="modelport-autotune-") as folder:
        for number, candidate in enumerate(candidates(options)):
            place = Path(folder) / f"{number}.pt2"
            try:
                built[place] = build_package(network, shape, place, candidate, name)
            except CompileError as refused:
                error = refused
                failed.append((candidate.settings, str(refused)))
        if not built:
            assert error is not None
            raise error
        seconds = _time_in_turn(list(built))
        order = sorted(built, key=lambda place: statistics.median(seconds[place]))
        shutil.copyfile(order[0], path)
    return Measured(built[order[0]], tuple((built[p].settings, seconds[p]) for p in order), tuple(failed))


def candidates(options: PackageOptions) -> Iterator[PackageOptions]:
    """Sets of options of which any may be the fastest, the default first.

    On the CPU the layout is the compiler's own choice and generated kernels have no variants to time, so only freezing and the
    timing of matrix products are left.
    """
    plain = replace(options, channels_last=True, freezing=True, max_autotune=False, coordinate_descent=False)
    yield plain
    yield replace(plain, freezing=False)
    yield replace(plain, max_autotune=True)
    if options.device == "cuda":
        yield replace(plain, channels_last=False)
        yield replace(plain, coordinate_descent=True)
        yield replace(plain, max_autotune=True, coordinate_descent=True)
        yield replace(plain, channels_last=False, max_autotune=True, coordinate_descent=True)


def _time_in_turn(places: list[Path]) -> dict[Path, tuple[float, ...]]:
    """Seconds of a batch, one value for each turn."""
    seconds: dict[Path, list[float]] = {place: [] for place in places}
    with ExitStack() as stack:
        runners = {place: stack.enter_context(open_runner(place, RunnerOptions(buffers=1))) for place in places}
        for _ in range(_TURNS):
            for place, runner in runners.items():
                seconds[place].append(_batch_seconds(runner))
    return {place: tuple(values) for place, values in seconds.items()}


def _batch_seconds(runner: Runner) -> float:
    runner.replay()
    runner.synchronize()
    rounds, start = 0, perf_counter()
    while True:
        runner.replay()
        runner.synchronize()
        rounds += 1
        if (passed := perf_counter() - start) >= _TURN_S:
            return passed / rounds
