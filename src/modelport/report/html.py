"""The run's report as one HTML page that needs no network: styles, pictures, charts and the plotting library are inside."""

from __future__ import annotations

from ..results import Command, RunResult, TargetResult
from . import contact_sheet, front, inside, rows, run_charts
from .answers import answers, headline
from .contact_sheet import Pictures
from .page import page


def render_html(result: RunResult, pictures: Pictures | None = None) -> str:
    """The whole report as a self-contained page; `pictures` are small JPEGs of the images that it shows, by key."""
    chosen = headline(result)
    points = front.points(result)
    return page(
        "report.html.j2",
        result=result,
        rows=rows,
        inside=inside,
        answers=answers(result),
        outcome=rows.outcome(result),
        # The reader's own target first: what is shown of each opens with it.
        targets=[chosen, *(target for target in result.targets if target is not chosen)],
        charts=run_charts,
        points=points,
        front_table=front.front_table(points),
        changed=[
            (target, contact_sheet.changed(target, pictures or {}, result.model.called))
            for target in result.targets
            if target.changed
        ],
        mistakes=contact_sheet.mistakes(result, pictures or {}),
        commands_of=lambda *parts: commands_of(result, *parts),
        slug=slug,
    )


def commands_of(result: RunResult, part: str, *words: str) -> list[Command]:
    """The command lines of a section; with words, those whose description ends in one of them."""
    mine = [command for command in result.commands if command.part == part]
    return [command for command in mine if command.what.endswith(words)] if words else mine


def slug(target: TargetResult) -> str:
    """A target's name as part of an element's id."""
    return "".join(character if character.isalnum() else "-" for character in target.name)
