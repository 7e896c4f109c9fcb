"""What one asks first: did the accuracy hold, how fast is it, and on what was that measured."""

from __future__ import annotations

from dataclasses import dataclass

from ..results import RunResult, TargetResult
from .rows import percent


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, its answer in a word or figure, what that is of, and a line or two more."""

    question: str
    figure: str
    of: str
    lines: tuple[str, ...]


def headline(result: RunResult) -> TargetResult:
    """The target that a reader would take: the fastest whose gate passed; the fastest of all where none did."""
    good = [target for target in result.targets if target.gate.passed] or result.targets
    return max(good, key=_speed)


def answers(result: RunResult) -> tuple[Answer, Answer, Answer]:
    """The three, in order."""
    return _accuracy(result), _speeds(result), _hardware(result)


def _accuracy(result: RunResult) -> Answer:
    checked = [target for target in result.targets if target.gate.checks]
    kept = sum(target.gate.passed for target in checked)
    figure, of = "Not known", "nothing to hold the targets against"
    if checked:
        figure, of = "Yes" if kept == len(checked) else "No", f"{kept} of {len(checked)} targets passed"
    return Answer("Did the accuracy hold?", figure, of, tuple(_accuracy_lines(result, headline(result))))


def _accuracy_lines(result: RunResult, chosen: TargetResult) -> list[str]:
    lines = []
    if accuracy := chosen.accuracy:
        interval = accuracy.interval95[0]
        lines.append(
            f"{chosen.name}: top-1 {percent(accuracy.topn[0])} (95 %: {interval.low * 100:.2f}–{interval.high * 100:.2f} %)"
            + (f", source {percent(result.source_accuracy.topn[0])}" if result.source_accuracy else "")
        )
    if paired := chosen.paired:
        lines.append(f"{paired.changed:,} of {paired.images:,} decisions changed")
    return lines


def _speeds(result: RunResult) -> Answer:
    chosen, question = headline(result), "How fast?"
    run, best = chosen.inference, chosen.best
    whole = f"{run.e2e.throughput:,.0f} img/s"
    limit = f"limited by {run.limiting_stage.name}"
    if best is None:
        return Answer(question, whole, f"{chosen.name}, from file on disk to TopN", (limit,))
    low, high = best.throughput_spread
    return Answer(
        question,
        f"{best.throughput:,.0f} img/s",
        f"{chosen.name}, batch {best.batch_size}" + (", the fastest that passed" if _chosen_of_several(result) else ""),
        (f"pure inference, 10–90 %: {low:,.0f}–{high:,.0f}", f"{whole} from file on disk to TopN, {limit}"),
    )


def _chosen_of_several(result: RunResult) -> bool:
    return len(result.targets) > 1 and headline(result).gate.passed and bool(headline(result).gate.checks)


def _hardware(result: RunResult) -> Answer:
    env = result.environment
    engines = dict.fromkeys(f"{target.engine} {target.engine_version}" for target in result.targets)
    facts = f"{env.cores} cores, {env.memory_bytes / 2**30:.0f} GiB of memory"
    return Answer("On what?", env.cpu, facts, (env.system, ", ".join(engines)))


def _speed(target: TargetResult) -> float:
    return target.best.throughput if target.best else target.inference.e2e.throughput
