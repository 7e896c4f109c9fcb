"""Code in the documentation, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import Block, blocks, blocks_of, commands_in, name
from places import ROOT

from modelport.recipe import Recipe
from modelport.schema import read_yaml

RUN = [block for block in blocks() if block.language in ("sh", "python") and block.reason is None]
RUNNABLE_PAGES = sorted({block.page for block in RUN})
LANGUAGES = {"", "sh", "console", "python", "yaml", "text", "diff", "json"}


@pytest.fixture(scope="session")
def place(checkpoint: Path, demo_directory: Path, tmp_path_factory: pytest.TempPathFactory):
    """`place(name)`: a folder in which the pages' relative paths hold, as in a checkout after `make demo`."""

    def make(label: str) -> Path:
        folder = tmp_path_factory.mktemp("page") / label
        (folder / ".demo").mkdir(parents=True)
        (folder / ".demo" / "run").symlink_to(demo_directory)
        (folder / "digits.onnx").symlink_to(demo_directory / "model.onnx")  # as the tutorial exports it
        for path in (*(ROOT / ".demo").glob("*digits*"), ROOT / "recipes", ROOT / "examples"):
            (folder / path.relative_to(ROOT)).symlink_to(path)
        return folder

    return make


def run(block: Block, folder: Path) -> str:
    """Run a block as a reader would, with this Python's programs first on the path."""
    assert unexplained(block) is None, block  # an installation, say
    words = ["bash", "-eu", "-o", "pipefail"] if block.language == "sh" else [sys.executable, "-"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=folder, input=block.text, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, f"{block}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(900)  # a page is a dozen processes; on a busy machine each takes its time
@pytest.mark.parametrize("page", RUNNABLE_PAGES, ids=name)
def test_blocks_run_in_the_order_of_the_page(page: Path, place) -> None:
    folder = place(page.stem)
    for block in RUN:
        if block.page == page:
            run(block, folder)


def unexplained(block: Block) -> str | None:  # noqa: PLR0911
    """What is wrong with a block by the rules of `doc_pages`; None where nothing is."""
    if block.language not in LANGUAGES:
        return f"language {block.language!r}; there are {sorted(LANGUAGES)}"
    if block.language == "console" and block.reason is None:
        return "a transcript is not run: say why in a comment above it"
    if (
        block.reason is None
        and block.language in ("sh", "python")
        and re.search(r"\b(pip|apt|apt-get|conda|npm) install", block.text)
    ):
        return "installs something: say in a comment above it that it is not run"
    if block.language in ("", "text") and commands_in(block.text):
        return "has commands: name its language"
    if block.reason is not None and block.language not in ("sh", "python", "console"):
        return "is of a language that is never run: take the comment away"
    for path in re.findall(r"tests/[\w/.]+\w", block.reason or ""):
        if not (ROOT / path).exists():
            return f"its reason names {path}, which does not exist"
    return None


def test_every_block_is_run_or_says_why_not() -> None:
    assert {str(block): wrong for block in blocks() if (wrong := unexplained(block))} == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```console\n$ modelport doctor\n```", "a transcript is not run"),
        ("```\nmodelport doctor\n```", "has commands"),
        ("```sh\npip install onnxruntime-gpu\n```", "installs something"),
        ("```bash\nmodelport doctor\n```", "language 'bash'"),
        ("<!-- not run: no reason -->\n```yaml\na: 1\n```", "never run"),
        (
            "<!-- not run: tests/test_nowhere.py does it -->\n```sh\nls\n```",
            "tests/test_nowhere.py, which does not exist",
        ),
        ("<!-- not run: -->\n```console\n$ ls\n```", "a transcript is not run"),
    ],
)
def test_unexplained_blocks_are_seen(text: str, told: str) -> None:
    (block,) = blocks_of(text, ROOT / "README.md")
    assert told in (unexplained(block) or "")


def test_recipes_are_accepted(tmp_path: Path) -> None:
    seen = 0
    for block in blocks():
        if block.language == "yaml" and {"model:", "targets:"} <= set(re.findall(r"(?m)^\w+:", block.text)):
            path = tmp_path / f"{block.page.stem}-{block.line}.yaml"
            path.write_text(block.text, encoding="utf-8")
            if block.page.name != "recipe.md":  # which shows every key, those that exclude each other, too
                assert Recipe.load(path).targets, block
                seen += 1
    assert seen


def test_every_key_of_a_recipe_is_documented(tmp_path: Path) -> None:
    (block,) = (block for block in blocks() if name(block.page) == "docs/recipe.md" and block.language == "yaml")
    path = tmp_path / "recipe.yaml"
    path.write_text(block.text, encoding="utf-8")
    shown = read_yaml(path)
    for key, field in Recipe.model_fields.items():
        assert key in shown
        section = getattr(field.annotation, "model_fields", None)
        if section and isinstance(shown[key], dict):
            assert set(section) == set(shown[key]), key
