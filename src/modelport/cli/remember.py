"""What commands share that put what they found out into the history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .shared import PATH

if TYPE_CHECKING:
    from ..history.record import Recorded

F = TypeVar("F", bound=Callable[..., Any])
HISTORY_HELP = "The history's file; left out, MODELPORT_HISTORY, or modelport/history.db in the user's data directory."
history_option = click.option("--history", type=PATH, metavar="FILE", help=HISTORY_HELP)


@dataclass(frozen=True, slots=True)
class Memory:
    """Where a command's result is kept; nowhere where `path` is None. `started` is when the command began."""

    path: Path | None
    started: str

    def keep(self, make: Callable[[], Sequence[Recorded]]) -> None:
        """Put what `make` returns into the history; a failure is a warning."""
        if self.path is None:
            return
        from ..history.record import keep

        keep(self.path, make)


def history_options(command: F) -> F:
    """--history and --no-history; the command gets them as `memory`."""

    @wraps(command)
    def with_memory(*args: Any, history: Path | None, no_history: bool, **rest: Any) -> Any:
        from datetime import UTC, datetime

        from ..history.place import place

        if history is not None and no_history:
            raise click.UsageError("--history and --no-history exclude each other.")
        started = datetime.now(UTC).isoformat(timespec="seconds")
        return command(*args, memory=Memory(None if no_history else place(history), started), **rest)

    with_memory = click.option(
        "--no-history",
        is_flag=True,
        help="Do not keep the result in the history; MODELPORT_HISTORY=off does so for all.",
    )(with_memory)
    return history_option(with_memory)  # type: ignore[return-value]
