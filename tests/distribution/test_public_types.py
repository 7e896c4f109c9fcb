"""The public names are typed: `__init__.pyi` says to type checkers what the lazy table in `__init__.py` finds at run time.

After a name is added to the table: `PYTHONPATH=tests python tests/distribution/test_public_types.py` writes the file anew.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import modelport

STUB = Path(modelport.__file__).with_suffix(".pyi")


def home(name: str) -> tuple[str, str]:
    """The module of a public name, and the name there."""
    module, _, attribute = modelport._HOME[name].partition(":")
    return module, attribute or name


def expected() -> str:
    """What `__init__.pyi` has to hold."""
    lines = ['"""The public names, for type checkers; `tests/distribution/test_public_types.py` keeps it."""', ""]
    found = sorted((*home(name), name) for name in modelport._HOME)
    lines += [f"from .{module} import {there} as {name}" for module, there, name in found]
    names = "".join(f'    "{name}",\n' for name in sorted(modelport._HOME))
    return "\n".join([*lines, "", "__version__: str", f"__all__ = [\n{names}]", ""])


def test_the_stub_says_what_the_table_does() -> None:
    assert STUB.read_text(encoding="utf-8") == expected()


@pytest.mark.parametrize("name", modelport.__all__)
def test_every_public_name_is_there(name: str) -> None:
    module, there = home(name)
    assert getattr(modelport, name) is getattr(import_module(f"modelport.{module}"), there)


if __name__ == "__main__":
    STUB.write_text(expected(), encoding="utf-8")
