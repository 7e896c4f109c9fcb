"""Two offline models timed in turn, in child processes: a crash or a hang of the engine is an error and no more.

A round is four short turns, A B B A. In each round both models run once after the other and once after themselves, which is
faster, and a machine that slows down steadily slows both alike; so that one round gives one fair ratio.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .. import child
from ..child import ChildDiedError, ChildTimeoutError
from ..engines import load
from ..engines.session import SessionOptions
from ..errors import InferenceError
from ..exclusive import watch
from ..offline import OfflineModel
from ..results import Hygiene, PairedTiming
from .bench import run_rounds
from .trial import run_for

LEAST_ROUNDS = 6  # fewer give no 95 % interval
_WARMUP = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnOptions:
    """How to time.

    Attributes:
        rounds: of four turns each, in all, at least 6.
        seconds: least length of a turn.
        processes: that share the rounds. Where a model lies in memory favours one or the other throughout a process.
        threads: cores in all; None is the engine's choice.
        timeout_s: until a process is ended.
    """

    rounds: int = 12
    seconds: float = 0.2
    processes: int = 4
    threads: int | None = None
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if self.rounds < LEAST_ROUNDS:
            raise ValueError(f"rounds must be at least {LEAST_ROUNDS}, got {self.rounds}")
        if not 1 <= self.processes <= self.rounds:
            raise ValueError(f"processes must be 1 to {self.rounds}, the rounds, got {self.processes}")
        if self.seconds < 0:
            raise ValueError(f"seconds must be 0 or more, got {self.seconds}")


def time_in_turn(before: Path, after: Path, options: TurnOptions) -> PairedTiming:
    """Time two offline models of one engine.

    Args:
        before, after: their directories.
        options: rounds, length of a turn, threads.

    Raises:
        InferenceError: a model cannot be opened or run, or the process died or took too long.
    """
    replies = []
    for number in range(options.processes):
        rounds = options.rounds // options.processes + (number < options.rounds % options.processes)
        request = {
            "models": [str(before.resolve()), str(after.resolve())],
            "swapped": bool(number % 2),
            "rounds": rounds,
            "seconds": options.seconds,
            "threads": options.threads,
        }
        try:
            replies.append(child.ask(__name__, request, timeout=options.timeout_s))
        except (ChildDiedError, ChildTimeoutError) as error:
            raise InferenceError(f"timing it against its predecessor: the process {error}") from error
    return PairedTiming(
        before_s=tuple(value for reply in replies for value in reply["seconds"][0]),
        after_s=tuple(value for reply in replies for value in reply["seconds"][1]),
        processes=options.processes,
        hygiene=tuple(Hygiene.parse(reply["hygiene"], "a timing's reply") for reply in replies),
    )


def _time(request: dict[str, Any]) -> dict[str, Any]:
    """The child's side."""
    order = [1, 0] if request["swapped"] else [0, 1]
    found: list[list[float]] = [[], []]
    with watch() as watched, ExitStack() as stack:
        sessions = {}
        for index in order:
            model = OfflineModel.load(Path(request["models"][index]))
            options = SessionOptions(threads=request["threads"])
            sessions[index] = stack.enter_context(load(model.manifest.engine.name).open(model, options))
        batch = sessions[0].random_batch()
        for index in order:
            run_rounds(sessions[index], batch, _WARMUP, lambda done, total: None)
        for _ in range(request["rounds"]):
            latencies: list[list[float]] = [[], []]
            for index in (*order, *order[::-1]):
                sessions[index].infer(batch)  # the other's threads have gone to sleep by the end of it
                latencies[index] += run_for(sessions[index], batch, request["seconds"])[0]
            for index in order:
                found[index].append(round(median(latencies[index]), 9))
    assert watched.hygiene is not None
    return {"seconds": found, "hygiene": watched.hygiene.jsonable()}


if __name__ == "__main__":
    child.answer(_time)
