"""CONTRIBUTING.md: its first change fails, then passes, as it says."""

from __future__ import annotations

from doc_pages import blocks, name


def test_the_first_change(checkout, apply, python) -> None:
    test, change = (block for block in blocks() if name(block.page) == "CONTRIBUTING.md" and block.language == "diff")
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/data/test_labels.py")

    apply(test)
    failing = python(*words)
    assert failing.returncode == 1, failing.stdout
    assert "test_comments_are_passed_over" in failing.stdout

    apply(change)
    passing = python(*words)
    assert passing.returncode == 0, passing.stdout
    linted = python("-m", "ruff", "check", "src/modelport/data/labels.py", "tests/data/test_labels.py")
    assert linted.returncode == 0, linted.stdout
