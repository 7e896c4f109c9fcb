"""Shell completion: the printed script, evaluated in a real bash, completes subcommands, options and files; nothing heavy is imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from modelport.cli import _COMMANDS, cli

BIN = Path(sys.executable).parent
HEAVY = ["numpy", "onnx", "pydantic", "pyarrow", "rich", "psutil", "openvino", "onnxruntime", "torch"]

# What bash does at the Tab key: set the words, call the function that `complete` names, look at what it leaves.
PRESS = """
eval "$(modelport completion bash)"
COMP_WORDS=({words})
COMP_CWORD={place}
_modelport_completion modelport
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def run(words: list[str], **environment: str) -> str:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PATH": path, **environment}, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def press_tab(*words: str) -> list[str]:
    line = PRESS.format(words=" ".join(f"'{word}'" for word in words), place=len(words) - 1)
    return run(["bash", "-c", line]).split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("modelport", "class"), ["classify"]),
        (("modelport", "lo"), ["loadgen"]),
        (("modelport", "loadgen", "--scen"), ["--scenario"]),
        (("modelport", "loadgen", "--scenario", "S"), ["SingleStream", "Server"]),
        (("modelport", "guide", "ais"), ["ais-bench"]),
        (("modelport", "completion", ""), ["bash", "zsh", "fish"]),
    ],
    ids=" ".join,
)
def test_a_real_bash_completes(words, expected):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    assert press_tab(*words) == expected


def test_all_commands_are_offered():
    shown = run(
        [sys.executable, "-m", "modelport"],
        _MODELPORT_COMPLETE="bash_complete",
        COMP_WORDS="modelport ",
        COMP_CWORD="1",
    )
    assert shown.split() == [f"plain,{name}" for name in _COMMANDS]


@pytest.mark.parametrize(
    ("words", "place"),
    [("modelport infer m --images x", 4), ("modelport classify m x", 3), ("modelport bench x", 2)],
)
def test_paths_are_left_to_the_shell(words, place):
    shown = run(
        [sys.executable, "-m", "modelport"],
        _MODELPORT_COMPLETE="bash_complete",
        COMP_WORDS=words,
        COMP_CWORD=str(place),
    )
    assert shown.split() == ["file,x"]


def test_completing_imports_nothing_heavy():
    code = (
        "import atexit, os, sys\n"
        f"atexit.register(lambda: print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr))\n"
        "from modelport.cli import main\n"
        "main()\n"
    )
    words = {"_MODELPORT_COMPLETE": "bash_complete", "COMP_WORDS": "modelport infer --sc", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **words})
    assert done.stdout.split() == ["plain,--scores"]
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    ("shell", "mark"),
    [
        ("bash", "complete -o nosort -F _modelport_completion modelport"),
        ("zsh", "#compdef modelport"),
        ("fish", "complete --no-files --command modelport"),
    ],
)
def test_each_shell_has_its_script(shell, mark):
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert mark in done.output
    assert "_MODELPORT_COMPLETE=" + shell + "_complete" in done.output


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_take_their_scripts(shell, tmp_path):
    if (path := shutil.which(shell)) is None:
        pytest.skip(f"there is no {shell}")
    (tmp_path / "script").write_text(CliRunner().invoke(cli, ["completion", shell]).output)
    run([path, "-n", str(tmp_path / "script")])


def test_another_shell_is_wrong_usage():
    done = CliRunner().invoke(cli, ["completion", "cmd"])
    assert done.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in done.output
