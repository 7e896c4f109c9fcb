"""The machine's own pace: a real product of matrices, on cores that are free and on cores that are not."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

import numpy as np
import pytest

from modelport import pace
from modelport.exclusive import watch
from modelport.host import usable_cores
from modelport.pace import measure_pace


def test_it_is_the_time_of_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of half the width is an eighth of the arithmetic."""
    whole = median(measure_pace() for _ in range(5))
    monkeypatch.setattr(pace, "_WIDTH", pace._WIDTH // 2)
    assert 2 < whole / median(measure_pace() for _ in range(5)) < 32


def test_it_shows_that_the_cores_are_not_ours() -> None:
    free = min(measure_pace() for _ in range(5))
    spin = "import numpy as np\nm = np.ones((512, 512), dtype='f4')\nprint(flush=True)\nwhile True: m @ m"
    children = [
        subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) for _ in range(2 * usable_cores())
    ]
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        crowded = median(measure_pace() for _ in range(5))
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert crowded > 1.2 * free


def test_few_slow_products_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one takes longer than all should, it is not measured for ever, nor once only."""
    times, calls = iter(np.cumsum(np.ones(1000))), []
    monkeypatch.setattr(pace, "perf_counter", lambda: float(next(times)))
    monkeypatch.setattr(pace.np, "matmul", lambda *_, out: calls.append(out))
    assert measure_pace() == 1.0
    assert len(calls) == pace._WARMUP + pace._LEAST


def test_a_measurement_is_watched_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = iter([4e-3, 5e-3])
    monkeypatch.setattr("modelport.exclusive.measure_pace", lambda: next(paces))
    with watch() as watched:
        pass
    assert watched.hygiene is not None
    assert watched.hygiene.pace_s == (4e-3, 5e-3)
    assert all("processes" in reason for reason in watched.hygiene.reasons)  # a pace is nobody's doing that we know of
