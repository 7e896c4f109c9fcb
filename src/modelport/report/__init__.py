"""Reports of a job: rows are computed once, then rendered for the terminal, as HTML, as Markdown and for CI. Reads only results."""

from __future__ import annotations

from pathlib import Path

from ..files import write_text
from ..results import RunResult
from .contact_sheet import Pictures
from .html import render_html
from .junit import render_junit
from .markdown import render_markdown
from .model_card import render_model_card

RUN_FILE, HTML_FILE, MARKDOWN_FILE, CARD_FILE, JUNIT_FILE = (
    "run.json",
    "report.html",
    "report.md",
    "model-card.md",
    "junit.xml",
)


def write_reports(result: RunResult, directory: Path, pictures: Pictures | None = None) -> None:
    """Write `run.json` and what is rendered from it into a directory, replacing those of an earlier run.

    `report.html` is for people, `report.md` for pull requests, `model-card.md` goes with the model, `junit.xml` is for CI.

    Args:
        result: the run.
        directory: where to.
        pictures: small JPEGs of the images that the page shows, by key; what has none is shown by its name.
    """
    result.write(directory / RUN_FILE)
    write_text(directory / MARKDOWN_FILE, render_markdown(result))
    write_text(directory / CARD_FILE, render_model_card(result))
    write_text(directory / JUNIT_FILE, render_junit(result))
    write_text(directory / HTML_FILE, render_html(result, pictures))
