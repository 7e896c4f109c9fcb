"""The documentation builds into a site in which every link and anchor leads somewhere, and which fetches nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from doc_pages import PAGES, name
from markdown_it import MarkdownIt
from places import ROOT

COUNTED = ("li", "table", "pre", "h2", "h3")


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """`mkdocs build --strict` of a checkout."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    site = tmp_path_factory.mktemp("docs") / "site"
    done = build(ROOT, site)
    assert done.returncode == 0, done.stderr
    return site


class Outline(HTMLParser):
    """What a page of the site loads from elsewhere, and how many of each element its article has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.counts = dict.fromkeys(COUNTED, 0)
        self._article = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._article |= tag == "article"
        if self._article and tag in self.counts:
            self.counts[tag] += 1
        link = given.get("href") if tag == "link" else given.get("src")
        if link and re.match(r"(?:[a-z]+:)?//", link):
            self.loaded.append(link)

    def handle_endtag(self, tag: str) -> None:
        self._article &= tag != "article"


def test_every_page_is_on_the_site_and_fetches_nothing(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        assert Outline(page.read_text(encoding="utf-8")).loaded == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_pages_read_on_the_site_as_they_do_in_the_repository(site: Path) -> None:
    """mkdocs's Markdown and CommonMark differ: what one takes for a list or a table is a paragraph to the other."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from hooks import PAGES as OUTSIDE
    finally:
        sys.path.pop(0)
    counts = {}
    for page in PAGES:
        path = OUTSIDE.get(name(page), name(page).removeprefix("docs/"))
        html = (site / path).with_suffix(".html").read_text(encoding="utf-8")
        plain = MarkdownIt().enable("table").render(page.read_text(encoding="utf-8"))
        counts[name(page)] = (Outline(html).counts, Outline(f"<article>{plain}</article>").counts)
    assert {page: both for page, both in counts.items() if both[0] != both[1]} == {}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The documentation alone, to be written into."""
    folder = tmp_path / "copy"
    for path in (*PAGES, ROOT / "mkdocs.yml", ROOT / "docs" / "hooks.py"):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder


def test_dead_links_and_anchors_are_seen(copy: Path) -> None:
    """Links to the files that the copy lacks are dead, and so are these."""
    with open(copy / "README.md", "a", encoding="utf-8") as readme, open(copy / "docs" / "faq.md", "a") as faq:
        readme.write("\n[a](docs/nowhere.md) [b](docs/faq.md#no-such-question)\n")
        faq.write("\n[c](../recipes/nowhere.yaml) [d](#nowhere)\n")
    done = build(copy, copy / "site")
    assert done.returncode != 0
    for target in ("docs/nowhere.md", "faq.md#no-such-question", "../recipes/nowhere.yaml", "#nowhere"):
        assert f"'{target}'" in done.stderr, done.stderr
