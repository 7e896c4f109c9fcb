"""A run that has everything a report can show of decisions, with names that would harm a page."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from modelport.results import BadImage, Decision, RunResult

HOSTILE = """<script>window.hacked = 1</script>"><img src=x onerror="window.hacked = 1">|`x`*"""


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
