"""The report as Markdown for a pull request: short, the verdict first. `model_card` has the long form."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..results import Command, RunResult
from . import inside, rows
from .answers import answers
from .rows import Table


def render_markdown(result: RunResult) -> str:
    """Verdict, a row for each target, failed checks, and what makes figures doubtful, as GitHub-flavoured Markdown."""
    failed = rows.gates(result, failed=True)
    parts = [
        f"# {text(result.name)}: {text(rows.verdict(result))}",
        "\n".join(
            f"- {each.question} **{text(each.figure)}**, {text('; '.join([each.of, *each.lines]))}."
            for each in answers(result)
        ),
        table(rows.summary(result)),
        f"**Failed checks**\n\n{table(failed)}" if failed.rows else "",
        _failures(result),
        titled(rows.three_speeds(result)),
        *(f"> **Note:** {text(warning)}" for warning in result.warnings),
        "Pictures, charts and all tables are in `report.html`, the long text in `model-card.md`, every figure in `run.json`.",
        _folded("Inside the targets", "\n".join(f"- {text(said)}" for said in _inside(result))),
        _folded("Commands", commands(result.commands)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _failures(result: RunResult) -> str:
    lines = [
        f"{target.name}: images that could not be classified: {len(bad):,} (first: {bad[0].key}: {bad[0].reason})"
        for target in result.targets
        if (bad := target.inference.bad_images)
    ]
    return "\n".join(f"- {text(line)}" for line in lines)


def _inside(result: RunResult) -> list[str]:
    return [f"{target.name}: {said}" for target in inside.targets(result) for said in inside.sentences(target)]


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>" if content else ""


def table(found: Table) -> str:
    """A table with its notes."""
    ruler = ["---:" if index in found.numeric else "---" for index in range(len(found.columns))]
    lines = [_line(map(text, found.columns)), _line(ruler), *(_line(map(text, row)) for row in found.rows)]
    return "\n".join(lines) + "".join(f"\n\n{text(note)}" for note in found.notes)


def titled(found: Table | None) -> str:
    """A table under its title in bold; nothing where there is none, or no row."""
    return f"**{text(found.title)}**\n\n{table(found)}" if found is not None and found.rows else ""


def commands(found: Iterable[Command]) -> str:
    """Command lines as a block of code, each with what it measures; nothing where there is none."""
    lines = [f"# {command.what}\n{command.line}" for command in found]
    return fenced("\n".join(lines), "sh") if lines else ""


def fenced(code: str, language: str = "") -> str:
    """A block of code that nothing in it can end."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code))])
    return f"{fence}{language}\n{code}\n{fence}"


def text(value: str) -> str:
    """Text that Markdown shows as it is, whatever an image is called."""
    for character in "\\`*_[]<>|~&":
        value = value.replace(character, "\\" + character)
    return " ".join(value.splitlines())


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
