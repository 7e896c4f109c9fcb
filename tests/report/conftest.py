"""A real browser for the pages, one a session; and a run that has everything a report can show of decisions."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modelport.results import BadImage, Decision, RunResult

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = """<script>window.hacked = 1</script>"><img src=x onerror="window.hacked = 1">|`x`*"""

Opened = tuple[Any, list[str]]  # a page, and all that it complained of or asked the network for
Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture(scope="session")
def open_page(browser: Any) -> Open:
    """`open_page(path, width=1200, color_scheme="dark")`: the page with its charts drawn, and its problems."""

    def open_it(path: Path, width: int = 1200, **context: Any) -> Opened:
        page, problems = browser.new_page(viewport={"width": width, "height": 900}, **context), []
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda asked: problems.append(asked.url) if not _inside(asked.url) else None)
        page.goto(path.as_uri())
        if page.locator(".plot").count():
            page.wait_for_selector(".plot .main-svg")
        return page, problems

    return open_it


def _inside(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


@pytest.fixture(scope="session")
def pictures() -> dict[str, bytes]:
    """Pictures of two of the three images that `harmed` shows."""
    out = io.BytesIO()
    Image.new("RGB", (32, 24), (200, 30, 30)).save(out, "JPEG")
    return {HOSTILE: out.getvalue(), "two.png": out.getvalue()}


@pytest.fixture(scope="session")
def harmed(demo: RunResult) -> RunResult:
    """The demo's run with names that would harm a page, changed decisions, mistakes and an image that failed."""
    first, second, *others = demo.targets
    changed = (
        Decision(key=HOSTILE, label=3, decided=5, confidence=0.97, before=3, confidence_before=0.6),
        Decision(key="gone.png", label=None, decided=1, before=2),
    )
    mistakes = (Decision(key=HOSTILE, label=3, decided=5, confidence=0.97), Decision(key="two.png", label=1, decided=7))
    bad = first.inference.model_copy(update={"bad_images": (BadImage(key=HOSTILE, reason="</title>" + HOSTILE),)})
    assert first.paired is not None
    paired = first.paired.model_copy(update={"changed": 20})
    update = {"inference": bad, "changed": changed, "mistakes": mistakes, "paired": paired}
    also = second.model_copy(update={"mistakes": mistakes[:1]})
    targets = (first.model_copy(update=update), also, *(each.model_copy(update={"mistakes": ()}) for each in others))
    return demo.model_copy(update={"name": HOSTILE, "source_name": HOSTILE, "warnings": (HOSTILE,), "targets": targets})
