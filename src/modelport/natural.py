"""Whole numbers from 0 as people write them: digits, and not more of them than anything counted here has."""

from __future__ import annotations

_MOST_DIGITS = 9  # Python refuses to convert thousands of digits, and tables of int32 to hold more


def natural(text: str) -> int | None:
    """The number, or None where the text is none."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None
