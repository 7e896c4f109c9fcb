"""The documentation's pictures: small, and whole without anything from elsewhere."""

from __future__ import annotations

import re

import pytest
from doc_pages import PAGES
from places import ROOT

PICTURES = sorted(path for kind in ("svg", "png") for path in (ROOT / "docs").rglob(f"*.{kind}"))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_it_is_small_and_fetches_nothing(path) -> None:
    assert path.stat().st_size < 300_000
    if path.suffix == ".svg":
        assert not re.search(r"(?:href|src)=|url\((?!#)|@import|@font-face", path.read_text(encoding="utf-8"))


def test_each_is_shown_with_words_for_who_cannot_see_it() -> None:
    shown: dict[str, str] = {}
    for page in PAGES:
        for text, target in re.findall(r"!?\[([^\]]*)\]\(([^)]+\.(?:svg|png))\)", page.read_text(encoding="utf-8")):
            shown[(page.parent / target).resolve().name] = text
    assert {path.name for path in PICTURES} - set(shown) == set()
    assert [name for name, text in shown.items() if len(text) < 12] == []
