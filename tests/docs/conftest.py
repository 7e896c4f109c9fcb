"""A copy of the checkout, for pages that change the source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from doc_pages import Block
from places import ROOT

Python = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Source and tests, without what was made from them."""
    folder = tmp_path / "checkout"
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def apply(checkout: Path) -> Callable[[Block], None]:
    """`apply(block)`: do a page's diff to the copy, as git does."""

    def patch(block: Block) -> None:
        command = ["git", "apply", "--recount"]
        done = subprocess.run(command, cwd=checkout, input=block.text, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}: {done.stderr}"

    return patch


@pytest.fixture
def python(checkout: Path) -> Python:
    """`python(*words)`: run Python on the copy."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
        return subprocess.run([sys.executable, *words], cwd=checkout, capture_output=True, text=True, env=environment)

    return run
