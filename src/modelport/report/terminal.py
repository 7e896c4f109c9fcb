"""Tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..printable import printable
from .rows import Table

if TYPE_CHECKING:
    from rich.console import Console


def show(console: Console, table: Table) -> None:
    """Print one table with its notes."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(
        title=Text(table.title),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        show_header=any(table.columns),
    )
    for index, column in enumerate(table.columns):
        grid.add_column(Text(column), justify="right" if index in table.numeric else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(_cell(value) for value in row))
    console.print(grid)
    for note in table.notes:
        console.print(Text(note), style="dim")


def _cell(value: str) -> object:
    from rich.text import Text

    styles = {"passed": "green", "FAILED": "bold red"}
    # A Text, and printable: names from files are neither read as markup nor as control sequences.
    return Text(printable(value), style=styles.get(value, ""))
