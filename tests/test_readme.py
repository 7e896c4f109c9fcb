"""The README's commands and its Python lines, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from modelport.cli import _COMMANDS
from modelport.recipe import Recipe
from modelport.schema import read_yaml

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The block that is marked as run by this file."""
    found = re.findall(rf"<!-- run by tests/test_readme.py -->\n```{language}\n(.*?)```", README, re.S)
    assert len(found) == 1
    return found[0]


@pytest.fixture
def workplace(checkpoint: Path, tmp_path: Path) -> Path:
    """A folder in which the README's relative paths hold."""
    for name in (".demo", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(words: list[str], folder: Path, stdin: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=folder, input=stdin, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_steps(workplace: Path) -> None:
    shown = run(["bash", "-eu"], workplace, block("sh"))
    assert "top-1" in shown
    assert (workplace / "digits-result.json").exists()


def test_the_python_lines(workplace: Path) -> None:
    shown = run([sys.executable, "-"], workplace, block("python"))
    assert "(8, 3, 64, 64) (8, 10)" in shown
    assert shown.strip().endswith("True")


def test_the_recipe_is_accepted(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    assert Recipe.load(tmp_path / "recipe.yaml").targets[1].engine == "onnxruntime"


def test_every_command_is_mentioned() -> None:
    assert [name for name in _COMMANDS if f"modelport {name}" not in README] == []


def test_every_key_of_a_recipe_is_documented() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8"), re.S)
    shown = read_yaml_text(text)
    for name, field in Recipe.model_fields.items():
        assert name in shown
        section = getattr(field.annotation, "model_fields", None)
        if section and isinstance(shown[name], dict):
            assert set(section) == set(shown[name]), name


def read_yaml_text(text: str) -> dict:
    """YAML through the project's own reader."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return read_yaml(Path(file.name))


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
