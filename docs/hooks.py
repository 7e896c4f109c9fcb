"""mkdocs: files outside docs/ that pages link to belong to the site as well, so that no link leads out of it.

Markdown files outside docs/ become pages (README.md: readme.md); any other file of the repository that a page links to is
copied to files/. Links that lead to what does not exist are left as they are, so that mkdocs names them.

Pages are written in CommonMark; mkdocs's Markdown wants a blank line before a list or a table, and gets it here.
"""

from __future__ import annotations

import posixpath
import re
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs/"
PAGES = {  # in the repository: on the site
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/cspresnext50/README.md": "examples/cspresnext50.md",
    "examples/cspresnext50/README.zh.md": "examples/cspresnext50.zh.md",
}
_SOURCES = {site: repository for repository, site in PAGES.items()}
_WANT_SPACE = ("bullet_list_open", "ordered_list_open", "table_open")
_LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside docs/."""
    for repository, site in PAGES.items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / repository)))
    for page in files.documentation_pages():
        for _, target, _, _ in _LINK.findall(page.content_string):
            repository = _in_repository(page.src_uri, target)
            site = _on_site(repository)
            if site and site.startswith("files/") and not files.get_file_from_path(site):
                files.append(File.generated(config, site, abs_src_path=str(ROOT / repository)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a page's links to where their targets are on the site, and set its lists and tables apart."""
    here = page.file.src_uri

    def turned(match: re.Match[str]) -> str:
        before, target, anchor, after = match.groups()
        site = _on_site(_in_repository(here, target))
        if site is None:
            return match.group(0)
        return f"{before}{posixpath.relpath(site, posixpath.dirname(here) or '.')}{anchor or ''}{after}"

    return _LINK.sub(turned, _spaced(markdown))


def _spaced(markdown: str) -> str:
    """The same text with a blank line before each list and table, and between the items of a list that has blank lines."""
    tokens = MarkdownIt().enable("table").parse(markdown)
    starts = {token.map[0] for token in tokens if token.type in _WANT_SPACE and token.level == 0 and token.map}
    for item, inside in pairwise(tokens):
        if item.type == "list_item_open" and item.level == 1 and item.map and not inside.hidden:
            starts.add(item.map[0])
    return "\n".join(f"\n{line}" if number in starts else line for number, line in enumerate(markdown.split("\n")))


def _in_repository(page: str, target: str) -> str:
    """Path in the repository of a link's target, for a page by its path on the site."""
    source = _SOURCES.get(page, DOCS + page)
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _on_site(repository: str) -> str | None:
    """Where a file of the repository is on the site; None where there is no such file."""
    if repository in PAGES:
        return PAGES[repository]
    if repository.startswith("..") or not (ROOT / repository).is_file():
        return None
    return repository.removeprefix(DOCS) if repository.startswith(DOCS) else f"files/{repository}"
