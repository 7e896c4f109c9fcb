"""Reports of a job: rows are computed once, then rendered for the terminal, as Markdown and as HTML. Reads only results."""

from __future__ import annotations

from pathlib import Path

from ..files import write_text
from ..results import RunResult
from .contact_sheet import Pictures
from .html import render_html
from .markdown import render_markdown

RUN_FILE, MARKDOWN_FILE, HTML_FILE = "run.json", "report.md", "report.html"


def write_reports(result: RunResult, directory: Path, pictures: Pictures | None = None) -> None:
    """Write `run.json`, `report.md` and `report.html` into a directory, replacing those of an earlier run.

    Args:
        result: the run.
        directory: where to.
        pictures: small JPEGs of the images that the page shows, by key; what has none is shown by its name.
    """
    result.write(directory / RUN_FILE)
    write_text(directory / MARKDOWN_FILE, render_markdown(result))
    write_text(directory / HTML_FILE, render_html(result, pictures))
