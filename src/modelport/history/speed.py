"""Did the speed change beyond noise? A test of two runs' rounds.

What makes rounds differ has two parts. Within a run they are autocorrelated and heavy-tailed: so medians are compared, not
means, and their uncertainty comes from the medians of blocks of neighbouring rounds, which keep the correlation inside. From
run to run the whole process is faster or slower (where its memory lies, what the machine did at the time), which no number of
rounds in one process shows: so a variance between runs is added, learnt from earlier runs in the history, or assumed.

    log(after ÷ before) ± t · √(s²_A + s²_B + σ²/k_A + σ²/k_B)

s² are the variances of the two medians, k the number of processes that measured each, σ the standard deviation from run to
run, and t Student's quantile with Welch and Satterthwaite's degrees of freedom. All comparisons share 1 % of false alarms
(Bonferroni), so that two runs of one model say "no change" 19 times of 20 even where the assumptions hold badly. A change
has to be seen in the rounds themselves: their middle halves must not overlap. And where the machine's own pace differed
(`pace`), the interval reaches from what is true if that did not touch the model to what is true if it touched it in full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError
from ..results.comparison import SpeedChange, SpeedVerdict
from ..results.history import Speed

FALSE_ALARMS = 0.01  # of a whole comparison
ASSUMED = 0.015  # standard deviation of a median latency from run to run, where nothing was learnt
LEAST_NOISE = 0.005  # however quiet the history says that the machine is
LEAST_ROUNDS = 5
LEAST_PACE = 0.03  # what two looks at one machine's pace differ by
_ASSUMED_WEIGHT = 8.0  # how many differences between runs the assumption is worth
_MEDIAN_EFFICIENCY = 0.37  # of a standard deviation that is estimated from a median of absolute values
_NORMAL_MEDIAN = 0.6745  # of the absolute values of a standard normal distribution
_LEAST_CONFIGURATIONS, _SEEN_FREEDOM = 5, 10.0
_BLOCKS = (
    20,
    10,
    5,
)  # the largest of the three estimates counts: each is too small where correlation reaches beyond its blocks


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviation of a median latency from run to run, as a fraction, and how sure it is.

    Attributes:
        deviation: of the logarithm.
        freedom: degrees of freedom of it.
        source: where it comes from, in words.
    """

    deviation: float = ASSUMED
    freedom: float = 30.0
    source: str = "assumed, for the history has too few earlier runs"


def learnt_noise(medians: Sequence[float]) -> Noise:
    """From earlier runs' median latencies, oldest first, and the assumption, weighted by what each is worth.

    Differences of neighbours are taken, so that a model or machine that became faster once counts as one difference; and the
    median of their sizes, so that it hardly counts.
    """
    logs = np.log(np.asarray(medians, dtype=np.float64))
    steps = np.abs(np.diff(logs))
    if len(steps) < 3:
        return Noise()
    seen = float(np.median(steps)) / _NORMAL_MEDIAN / math.sqrt(2)
    weight = _MEDIAN_EFFICIENCY * len(steps)
    variance = (_ASSUMED_WEIGHT * ASSUMED**2 + weight * seen**2) / (_ASSUMED_WEIGHT + weight)
    deviation = max(LEAST_NOISE, math.sqrt(variance))
    return Noise(deviation, _ASSUMED_WEIGHT + weight, f"learnt from {len(logs)} earlier runs")


def seen_noise(pairs: Sequence[tuple[Speed, Speed]]) -> Noise:
    """The noise that a comparison itself shows: how unequally the batch sizes of each target changed.

    Each configuration is measured in a process of its own, so these changes are as many draws of the noise. What changed a
    target as a whole, or a few of its batch sizes, hardly counts: differences are from the target's median, and their median
    counts. Configurations during which the machine's own pace differed are left out. 0 where there are too few to tell.
    """
    by_target: dict[str, list[float]] = {}
    for before, after in pairs:
        single = len(before.rounds_s) == len(after.rounds_s) == 1
        if before.median_s and after.median_s and single and not any(_own(before, after)):
            target = after.configuration.partition(", batch ")[0]
            by_target.setdefault(target, []).append(math.log(after.median_s / before.median_s))
    sizes = [changes for changes in by_target.values() if len(changes) >= 3]
    apart = [
        abs(change - float(np.median(changes))) * math.sqrt(len(changes) / (len(changes) - 1))  # its median is its own
        for changes in sizes
        for change in changes
    ]
    deviation = float(np.median(apart)) / _NORMAL_MEDIAN / math.sqrt(2) if len(apart) >= _LEAST_CONFIGURATIONS else 0.0
    return Noise(
        deviation, _SEEN_FREEDOM, "seen in this comparison: so unequally did the batch sizes of each target change"
    )


def median_variance(rounds: Sequence[float]) -> tuple[float, int]:
    """Variance of the logarithm of the rounds' median, and its degrees of freedom; at least five rounds.

    The variance of the medians of k blocks of neighbours, ÷ k: batch means (Law & Kelton), of medians.
    """
    logs = np.log(np.asarray(rounds, dtype=np.float64))
    found = []
    for blocks in _BLOCKS:
        if len(logs) >= 3 * blocks or blocks == _BLOCKS[-1]:
            medians = [float(np.median(block)) for block in np.array_split(logs, min(blocks, len(logs)))]
            found.append((float(np.var(medians, ddof=1)) / len(medians), len(medians) - 1))
    return max(found)


def require_latencies(speed: Speed) -> None:
    """Raise FormatError where a round took no time, or less."""
    for value in (value for rounds in speed.rounds_s for value in rounds):
        if not 0 < value < math.inf:
            raise FormatError(
                f"{speed.configuration}: holds a latency of {value:g} s, which nothing has; was the file edited?"
            )


def compare_speed(before: Speed, after: Speed, noise: Noise, comparisons: int) -> SpeedChange | None:
    """Hold one configuration's rounds of two runs against each other.

    Args:
        before, after: the same configuration.
        noise: from run to run.
        comparisons: how many are made together.

    Returns:
        None where one of them has no rounds.
    """
    from scipy.stats import t

    if before.median_s is None or after.median_s is None:
        return None
    logarithm = math.log(after.median_s / before.median_s)
    parts = [_part(speed, noise) for speed in (before, after)]
    variance = sum(value for terms in parts for value, _ in terms)
    freedom = variance**2 / sum(value**2 / degrees for terms in parts for value, degrees in terms)
    reach = float(t.ppf(1 - FALSE_ALARMS / comparisons / 2, freedom)) * math.sqrt(variance)
    faster, slower = _own(before, after)
    low, high = math.expm1(logarithm - reach - slower), math.expm1(logarithm + reach - faster)
    overlap = _overlap(before, after)
    verdict, reason = _judge(before, after, (low, high), overlap)
    if verdict == "no change" and max(abs(logarithm), abs(logarithm - slower), abs(logarithm - faster)) > reach:
        reason = _machine_reason(faster, slower) or reason
    return SpeedChange(
        configuration=after.configuration,
        before_ms=before.median_s * 1e3,
        after_ms=after.median_s * 1e3,
        slowdown=math.expm1(logarithm),
        low=low,
        high=high,
        noise=noise.deviation,
        noise_source=noise.source,
        pace=(math.expm1(faster), math.expm1(slower)),
        overlap=overlap,
        verdict=verdict,
        reason=reason,
    )


def _own(before: Speed, after: Speed) -> tuple[float, float]:
    """Logarithms of how much slower the machine itself was after than before, at least and at most, with 0 between them.

    It may have changed at any time between its two looks at a process, so both count. 0 where nobody looked, or it was the same.
    """
    if before.pace_s is None or after.pace_s is None or before.rounds_s == after.rounds_s:
        return 0.0, 0.0
    a, b = (np.median(np.sort(np.log(side.pace_s), axis=1), axis=0) for side in (before, after))
    faster, slower = float(b[0] - a[1]), float(b[1] - a[0])
    return faster if faster < -LEAST_PACE else 0.0, slower if slower > LEAST_PACE else 0.0


def _machine_reason(faster: float, slower: float) -> str | None:
    """That the machine's own pace may be all that changed; None where it did not differ."""
    if not faster and not slower:
        return None
    side, most = ("B", slower) if slower >= -faster else ("A", -faster)
    return f"the machine itself was up to {math.expm1(most):.0%} slower during {side}, which may be all: measure again"


def _part(speed: Speed, noise: Noise) -> list[tuple[float, float]]:
    """What one run adds to the variance, each term with its degrees of freedom."""
    processes = len(speed.rounds_s)
    terms = [(noise.deviation**2 / processes, noise.freedom)]
    for rounds in speed.rounds_s:
        if len(rounds) >= LEAST_ROUNDS:
            variance, freedom = median_variance(rounds)
            if variance:
                terms.append((variance / processes**2, freedom))
    return terms


def _overlap(before: Speed, after: Speed) -> bool:
    """Whether the middle halves of the rounds have anything in common."""
    (low_a, high_a), (low_b, high_b) = (
        np.percentile([value for rounds in speed.rounds_s for value in rounds], [25, 75]) for speed in (before, after)
    )
    return bool(low_a <= high_b and low_b <= high_a)


def _judge(before: Speed, after: Speed, interval: tuple[float, float], overlap: bool) -> tuple[SpeedVerdict, str]:
    low, high = interval
    if before.rounds_s == after.rounds_s:
        return "no change", "it is the same measurement"
    if doubts := [name for name, speed in (("A", before), ("B", after)) if speed.doubtful]:
        return "doubtful", f"others used the machine during {' and '.join(doubts)}: measure again"
    fewest = min(len(rounds) for speed in (before, after) for rounds in speed.rounds_s)
    processes = min(len(speed.rounds_s) for speed in (before, after))
    if fewest < LEAST_ROUNDS and processes < 2:
        return "cannot tell", f"{fewest} rounds are too few: measure at least {LEAST_ROUNDS}"
    if low <= 0 <= high:
        return "no change", "its interval holds 0"
    if overlap:
        return "no change", "the middle halves of the rounds overlap"
    return (
        "slower" if low > 0 else "faster"
    ), "its interval does not hold 0, and the middle halves of the rounds are apart"
