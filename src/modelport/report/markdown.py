"""The report as Markdown, for pull requests and model cards."""

from __future__ import annotations

import re

from ..results import RunResult
from . import inside, rows
from .rows import Table


def render_markdown(result: RunResult) -> str:
    """The whole report as GitHub-flavoured Markdown."""
    parts = [f"# {_text(result.name)}: {_text(rows.verdict(result))}", _table(rows.summary(result))]
    for warning in result.warnings:
        parts.append(f"> **Note:** {_text(warning)}")
    for title, part, pieces in (
        (
            "Accuracy",
            "accuracy",
            [rows.accuracy(result), rows.paired(result), rows.gates(result), rows.bad_images(result)],
        ),
        (
            "Performance",
            "performance",
            [
                rows.three_speeds(result),
                *rows.performance(result),
                *(rows.stages(target.inference, f"Stages of {target.name}") for target in result.targets),
            ],
        ),
        *(
            (f"Inside {target.name}", "inside", [*inside.sentences(target), *inside.tables(target)])
            for target in inside.targets(result)
        ),
        ("Model and environment", "model", [rows.environment(result)]),
    ):
        parts.append(f"## {title}")
        parts += [_piece(piece) for piece in pieces if piece]
        parts.append(_commands(result, part))
    return "\n\n".join(part for part in parts if part) + "\n"


def _piece(piece: Table | str) -> str:
    if isinstance(piece, str):
        return _text(piece)
    return f"### {_text(piece.title)}\n\n{_table(piece)}" if piece.rows else ""


def _table(table: Table) -> str:
    ruler = ["---:" if index in table.numeric else "---" for index in range(len(table.columns))]
    lines = [_line(map(_text, table.columns)), _line(ruler), *(_line(map(_text, row)) for row in table.rows)]
    return "\n".join(lines) + "".join(f"\n\n{_text(note)}" for note in table.notes)


def _line(cells: object) -> str:
    return f"| {' | '.join(cells)} |"


def _commands(result: RunResult, part: str) -> str:
    lines = [f"# {command.what}\n{command.line}" for command in result.commands if command.part == part]
    text = "\n".join(lines)
    fence = "`" * max(
        [3, *(len(run) + 1 for run in re.findall("`+", text))]
    )  # a path may hold the end of a shorter one
    return f"{fence}sh\n{text}\n{fence}" if lines else ""


def _text(value: str) -> str:
    """Text that Markdown shows as it is, whatever an image is called."""
    for character in "\\`*_[]<>|":
        value = value.replace(character, "\\" + character)
    return " ".join(value.splitlines())
