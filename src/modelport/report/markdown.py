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
        table(rows.three_speeds(result)),
        *(f"> **Note:** {text(warning)}" for warning in result.warnings),
        *(
            f"- {text(f'{target.name}: {said}')}"
            for target in inside.targets(result)
            for said in inside.sentences(target)
        ),
        "Pictures, charts and all tables are in `report.html`, the long text in `model-card.md`, every figure in `run.json`.",
        f"<details><summary>Commands</summary>\n\n{commands(result.commands)}\n\n</details>" if result.commands else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


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
    whole = "\n".join(lines)
    fence = "`" * max(
        [3, *(len(run) + 1 for run in re.findall("`+", whole))]
    )  # a path may hold the end of a shorter one
    return f"{fence}sh\n{whole}\n{fence}" if lines else ""


def text(value: str) -> str:
    """Text that Markdown shows as it is, whatever an image is called."""
    for character in "\\`*_[]<>|~&":
        value = value.replace(character, "\\" + character)
    return " ".join(value.splitlines())


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
