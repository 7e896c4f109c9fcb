"""What a model says of images, on the terminal: a bar for each class; plain lines where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..printable import printable
from ..results import Classification, ClassifiedImage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_BAR = 24  # cells
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def show_classification(console: Console, result: Classification) -> None:
    """Print each image with its likeliest classes, or with the reason why there are none."""
    from rich.text import Text

    bars = console.is_terminal
    for image in result.images:
        # A Text, and printable: names from files are neither read as markup nor as control sequences.
        console.print(Text(printable(image.key), style="bold"), soft_wrap=True)
        if image.error is not None:
            console.print(Text(f"  could not be classified: {printable(image.error)}", style="red"), soft_wrap=True)
        else:
            console.print(_guesses(image, bars=bars))
        if bars:
            console.print()


def _guesses(image: ClassifiedImage, *, bars: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    named = any(guess.name is not None for guess in image.guesses)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column()  # the indent
    grid.add_column(justify="right")
    grid.add_column(justify="right")
    if bars:
        grid.add_column(no_wrap=True)
    if named:
        grid.add_column(overflow="fold")
    for place, guess in enumerate(image.guesses):
        style = "bold" if place == 0 else ""
        cells = [Text(""), Text(f"{guess.probability:.2%}", style=style), Text(str(guess.label), style="dim")]
        if bars:
            cells.append(Text(bar(guess.probability), style="green" if place == 0 else "blue"))
        if named:
            cells.append(Text(printable(guess.name or ""), style=style))
        grid.add_row(*cells)
    return grid


def bar(share: float) -> str:
    """A share of 1 as a bar of 24 cells, drawn in eighths of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * _BAR * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)
