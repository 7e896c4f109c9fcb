"""How fast the machine itself is just now: the time of one fixed product of matrices on all cores that this process may use.

A virtual machine's cores are shared with neighbours whom nothing inside it shows: no process, no stolen time, no clock. What
they leave shows in arithmetic of a known size. Whether a model was slower, or its machine, is seen by comparing this time.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

_WIDTH = 768  # square float32 matrices that a core's own cache holds
_WARMUP = 2
_LEAST, _SECONDS = 5, 0.05


def measure_pace() -> float:
    """Seconds of the fastest product in about 50 ms: what the machine can do, moments that others took apart.

    The threads that made it spin for a while afterwards.
    """
    matrix = np.ones((_WIDTH, _WIDTH), dtype=np.float32)
    out, taken = np.empty_like(matrix), list[float]()
    for _ in range(_WARMUP):
        np.matmul(matrix, matrix, out=out)
    end = perf_counter() + _SECONDS
    while len(taken) < _LEAST or perf_counter() < end:
        begin = perf_counter()
        np.matmul(matrix, matrix, out=out)
        taken.append(perf_counter() - begin)
    return min(taken)
