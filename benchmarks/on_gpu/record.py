"""The run's budget and its record: what was measured, what was dropped and why; on disk after each step."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Record:
    """Figures by section, saved after each step, and a clock that says what there is time for."""

    def __init__(self, path: Path, seconds: float):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._began, self._seconds = time.monotonic(), seconds
        self.sections: dict[str, Any] = {}
        self.dropped: list[str] = []
        self.failed: list[str] = []
        self.steps: dict[str, float] = {}

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self._seconds - self.spent

    def at(self, share: float) -> float:
        """Seconds that are left until this share of the budget is spent; below 0 where it is."""
        return self._seconds * share - self.spent

    def say(self, text: str) -> None:
        """A line of progress on stderr, with the time."""
        print(f"[{self.spent:6.1f} s] {text}", file=sys.stderr, flush=True)

    def drop(self, what: str, why: str = "no time left") -> None:
        """Note that something was left out."""
        self.dropped.append(f"{what}: {why}")
        self.say(f"left out: {what}: {why}")

    def put(self, section: str, value: Any) -> None:
        """Keep figures, and save all."""
        self.sections[section] = value
        self.save()

    @contextmanager
    def step(self, name: str, *, needs: float = 0.0) -> Iterator[None]:
        """A step that may fail without ending the others. `needs` is only told; the caller decides by `left`.

        An error is kept with its last line in the record, and with its traceback on stderr: a card is often at hand for minutes only, so
        what can still be measured is measured.
        """
        since = self.spent
        self.say(name)
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.failed.append(f"{name}: {type(error).__name__}: {first_line(error)}")
        self.steps[name] = self.spent - since
        self.save()

    def save(self) -> None:
        """Write the file whole, or leave the one before."""
        document = {
            **self.sections,
            "steps_s": self.steps,
            "left_out": self.dropped,
            "failed": self.failed,
            "spent_s": self.spent,
            "budget_s": self._seconds,
        }
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(document, indent=1))
        os.replace(temporary, self.path)


def first_line(error: BaseException) -> str:
    """Of its message."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else ""
