"""docs/how-to/new-engine.md: what the page adds is an engine that keeps the whole contract."""

from __future__ import annotations

import re

from doc_pages import blocks, name

PAGE = [block for block in blocks() if name(block.page) == "docs/how-to/new-engine.md"]
(SOURCE,) = (block.text for block in PAGE if block.language == "python")
PATCHES = [block for block in PAGE if block.language == "diff"]


def test_the_engine_keeps_the_contract(checkout, apply, python, tiny_onnx) -> None:
    file = "src/modelport/engines/reference.py"
    (checkout / file).write_text(SOURCE, encoding="utf-8")
    for patch in PATCHES:
        apply(patch)

    contract = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/engines/test_contract.py", "-k", "reference"
    )
    assert contract.returncode == 0, contract.stdout
    assert int(re.search(r"(\d+) passed", contract.stdout).group(1)) >= 33
    assert "skipped" not in contract.stdout

    for words in (
        ("-m", "modelport", "compile", str(tiny_onnx), "--engine", "reference", "-o", "offline"),
        ("-m", "modelport", "bench", "offline", "--rounds", "2", "--warmup", "0"),
        ("-m", "ruff", "check", file),
        ("-m", "ruff", "format", "--check", file),
    ):
        done = python(*words)
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_at_most_100_lines() -> None:
    added = [line for patch in PATCHES for line in patch.text.splitlines() if re.match(r"\+(?!\+)", line)]
    assert len(SOURCE.splitlines()) + len(added) <= 100
