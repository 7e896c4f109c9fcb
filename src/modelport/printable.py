"""Text from files (names, reasons) as it may be shown: one line, and nothing that a terminal acts on or that hides what it says."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with what is not printable as escapes: line breaks, control sequences, marks that turn the direction of writing.

    Bytes of a file name that are no UTF-8 (surrogates, in Python) become `\\xff`. What is printable stays, a backslash too, so
    that doing it twice changes nothing.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def is_utf8(path: object) -> bool:
    """Whether a path's bytes are UTF-8, as ONNX's, Arrow's and the runtimes' own code want it."""
    return not any("\ud800" <= character <= "\udfff" for character in str(path))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
