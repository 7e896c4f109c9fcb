"""The pages of the documentation, and the blocks of code in them.

A block of `sh` or `python` is run by the tests, or says in a comment right above it why it is not:

    <!-- not run: needs an Ascend device -->

`console` blocks show a command with what it answered; they are never run and need such a comment, too.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from places import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if "build" not in path.relative_to(ROOT).parts
)
_MARKER = re.compile(r"<!-- not run: (\S.*?) -->\s*")
_INLINE = re.compile(r"(?:^|\$\()(modelport [a-z][^)]*)")
_ENDS = {"&&", "||", ";", "|", ">", "2>", "&", "#", "do", "then"}
_WAIT = re.compile(r"^(?:\w+=\S* |\$ |nice -n \d+ |time |if |! )*")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: of the page, from 1.
        language: the first word after the fence; empty where there is none.
        reason: why it is not run; None where it is.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(text: str, page: Path) -> list[Block]:
    """All fenced blocks of a page's text."""
    found, before = [], ""
    for token in MarkdownIt().parse(text):
        if token.type == "fence":
            language = (token.info.split() or [""])[0]
            marker = _MARKER.fullmatch(before)
            found.append(Block(page, token.map[0] + 1, language, token.content, marker and marker.group(1)))
        before = token.content if token.type == "html_block" else ""
    return found


@cache
def blocks() -> list[Block]:
    """All fenced blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(page.read_text(encoding="utf-8"), page)]


def commands_in(text: str) -> list[list[str]]:
    """The words of each `modelport` command in a shell block or transcript, redirections and later commands cut off."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||;|\|", _WAIT.sub("", line.strip())):
            command = _WAIT.sub("", part.strip())
            if command == "modelport" or command.startswith("modelport "):
                words = shlex.split(command, comments=True)
                end = next((place for place, word in enumerate(words) if word in _ENDS), len(words))
                found.append(words[1:end])
    return found


def inline_commands(text: str) -> list[list[str]]:
    """The words of each `modelport …` in backticks in a page's prose."""
    found = []
    for token in MarkdownIt().enable("table").parse(text):
        for child in token.children or []:
            if child.type == "code_inline" and (code := _INLINE.search(child.content)):
                found.append(shlex.split(code.group(1))[1:])
    return found
