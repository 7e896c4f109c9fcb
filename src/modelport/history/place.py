"""Where the history is."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "MODELPORT_HISTORY"
OFF = "off"
FILE = "history.db"


def place(given: Path | None = None) -> Path | None:
    """The history's file: the one given, `MODELPORT_HISTORY`, or `modelport/history.db` where the user's data is (XDG).

    Returns:
        None where `MODELPORT_HISTORY` is `off`.
    """
    if given is not None:
        return given
    stated = os.environ.get(VARIABLE, "")
    if stated:
        return None if stated == OFF else Path(stated).expanduser()
    data = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path there is invalid and to be ignored.
    base = Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share"
    return base / "modelport" / FILE
