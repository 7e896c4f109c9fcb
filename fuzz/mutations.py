"""Valid input made invalid in likely ways: by its bytes, and by its values where it is JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from random import Random
from typing import Any

_NUMBERS = (0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**30, 0.0, -0.5, 1e-320, 1e308, float("nan"), float("inf"))
_TEXTS = (
    "",
    " ",
    "\0",
    "é",
    "\u2028",
    "\ud800",
    "a" * 300,
    "..",
    "/",
    "../x",
    "NaN",
    "null",
    "1e999",
    "²",
    "٣",
    "%s",
    "~",
    "~nobody/x",
)
_VALUES = (None, True, False, [], {}, [[]], {"": None}, *_NUMBERS, *_TEXTS)
_PIECES = (
    *(b"\0", b"\n", b"\r\n", b"\t", b" ", b",", b";", b'"', b"'", b":", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"- ", b"!"),
    *(b"\xff", b"\xef\xbb\xbf", b"\xc2\xb2", b"\xd9\xa3", b"\xe2\x80\xa8", b"\x1c", b"-1", b"1e999", b"nan", b"inf", b"."),
    *(b"9" * 20, b"9" * 5000, b"_", b"+", b"0x", b"N/A", b"nan,", b"inf,", b"1e308,", b"-1,", b"[" * 200, b"[" * 2000),
)  # fmt: skip


def mutate(data: bytes, random: Random) -> bytes:
    """Change one to four things in it: values where it is a JSON document, bytes everywhere."""
    times = random.randint(1, 4)
    document = _document(data) if random.random() < 0.6 else None
    if document is not None:
        with suppress(RecursionError):  # too deeply nested to be copied and written
            return _mutate_document(document, random, times)
    for _ in range(times):
        data = _mutate_bytes(data, random)
    return data


def _document(data: bytes) -> Any:
    """Its values; None where it is no JSON document of several."""
    if not data.lstrip().startswith((b"{", b"[")):
        return None
    try:
        return json.loads(data) or None
    except (ValueError, RecursionError):
        return None


def _mutate_document(document: Any, random: Random, times: int) -> bytes:
    for _ in range(times):
        if document:
            _mutate_value(document, random)
    return json.dumps(document).encode()


def _mutate_value(document: Any, random: Random) -> None:
    """Remove, rename, repeat, empty or replace one value."""
    container, key = random.choice(list(_places(document)))
    choice = random.randrange(6)
    if choice == 0:
        del container[key]
    elif choice == 1 and isinstance(container, dict):
        container[random.choice([*_TEXTS, f"{key}x"])] = deepcopy(container[key])
    elif choice == 2 and isinstance(container, list):
        container.extend(deepcopy(container[key]) for _ in range(random.choice([1, 2, 50])))
    elif choice == 3 and isinstance(container[key], list | dict):
        container[key].clear()
    else:
        same = [value for value in _VALUES if type(value) is type(container[key])]
        container[key] = deepcopy(random.choice(same if same and random.random() < 0.5 else _VALUES))


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every value's container and its key there."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _mutate_bytes(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    stop = min(len(data), start + random.choice([0, 0, 1, 2, 8, 64, len(data)]))
    choice = random.randrange(5)
    if choice == 0:
        piece = b""
    elif choice == 1:
        piece = bytes(random.randrange(256) for _ in range(random.randint(1, 8)))
    elif choice == 2:
        piece = data[start:stop] * random.choice([2, 3, 20])
    elif choice == 3 and data:
        other = random.randrange(len(data))
        piece = data[other : other + random.choice([1, 4, 16, 64])]
    else:
        piece = random.choice(_PIECES)
    return data[:start] + piece + data[stop:]
