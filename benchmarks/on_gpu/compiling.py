"""Compiling side by side in processes of their own, the most wanted first, until a point in time; what is late is ended and told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_POLL_S = 0.1
_LAST = 300  # characters of what a child said last


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to compile.

    Attributes:
        kind: `torch.compile` fills its on-disk cache; `package` writes a .pt2 file.
        batch: images.
        tuned: let the compiler measure its choices (max-autotune).
        channels_last: memory layout of the input and the weights.
    """

    kind: str
    batch: int
    tuned: bool = False
    channels_last: bool = False

    @property
    def name(self) -> str:
        """As it stands in tables."""
        who = "torch.compile" if self.kind == "torch.compile" else "modelport"
        mode = "max-autotune" if self.tuned else "default"
        return f"{who} {mode}" + (", channels last" if self.channels_last else "")

    @property
    def file(self) -> str:
        """Stem of its files."""
        parts = [
            self.kind,
            "tuned" if self.tuned else "default",
            "nhwc" if self.channels_last else "nchw",
            str(self.batch),
        ]
        return "-".join(parts)


@dataclass(frozen=True, slots=True)
class Place:
    """What every job needs to know: where the weights are, what the network is, and where to work."""

    directory: str
    small: bool
    size: int
    device: str
    dtype: str


@dataclass(slots=True)
class Outcome:
    """How a job ended: seconds and facts, or the reason why there is nothing."""

    job: Job
    seconds: float
    reason: str | None = None
    facts: dict | None = None


class _Child:
    def __init__(self, job: Job, place: Place, threads: int):
        self.job, self.began = job, time.monotonic()
        self._stem = Path(place.directory) / job.file
        request = json.dumps({"job": asdict(job), "place": asdict(place)})
        self._log = open(f"{self._stem}.log", "wb")  # noqa: SIM115 - as long as the child runs
        here = str(Path(__file__).parents[1])
        paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "on_gpu.compile_job", request],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": paths, "TORCHINDUCTOR_COMPILE_THREADS": str(threads)},
            start_new_session=True,  # so that its compilers end with it
        )

    def end(self, reason: str | None = None) -> Outcome:
        """Collect an ended child; with a reason, end it first."""
        if reason is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self._log.close()
        seconds, done = time.monotonic() - self.began, Path(f"{self._stem}.json")
        if reason is None and code == 0 and done.is_file():
            return Outcome(self.job, seconds, facts=json.loads(done.read_text()))
        return Outcome(self.job, seconds, reason or f"exit {code}: {self._last_words()}")

    def _last_words(self) -> str:
        lines = Path(f"{self._stem}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][-_LAST:] if lines else "it said nothing"


def compile_all(  # noqa: PLR0913
    jobs: list[Job],
    place: Place,
    *,
    at_once: int,
    threads: int,
    left: Callable[[], float],
    told: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run the jobs in their order, `at_once` side by side.

    Args:
        threads: of each child's own compile workers.
        left: seconds until those that still run are ended and no other begins.
        told: gets each outcome as it comes.
    """
    waiting, running, outcomes = list(jobs), list[_Child](), list[Outcome]()

    def keep(outcome: Outcome) -> None:
        outcomes.append(outcome)
        told(outcome)

    try:
        while waiting or running:
            late = left() <= 0
            for child in list(running):
                if child.process.poll() is not None or late:
                    running.remove(child)
                    ended = child.process.poll() is not None
                    keep(child.end(None if ended else f"not compiled after {time.monotonic() - child.began:.0f} s"))
            if late:
                for job in waiting:
                    keep(Outcome(job, 0.0, "not begun"))
                waiting.clear()
            while waiting and len(running) < at_once:
                running.append(_Child(waiting.pop(0), place, threads))
            time.sleep(_POLL_S)
    finally:
        for child in running:
            child.end("the run ended")
    return outcomes
