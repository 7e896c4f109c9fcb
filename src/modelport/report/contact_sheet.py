"""Pictures of what was decided otherwise, and of what was mistaken most surely, with their captions."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from ..results import Decision, RunResult, TargetResult
from .rows.correctness import Called

MISTAKES = 12  # shown of all targets together

Pictures = Mapping[str, bytes]  # small JPEGs by the image's key


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One picture.

    Attributes:
        key: the image's name.
        source: of the img element, a data URL; None where the image could not be read any more.
        text: what it shows and what was decided, for those who do not see it.
        lines: the caption.
    """

    key: str
    source: str | None
    text: str
    lines: tuple[str, ...]


def changed(target: TargetResult, pictures: Pictures, called: Called = str) -> list[Exhibit]:
    """Decisions of a target that are not the source's, the surest first; classes are told as `called` has them."""
    return [
        _exhibit(each, pictures, (_label(each, called), _before(each, called), _now(each, called)))
        for each in target.changed
    ]


def mistakes(result: RunResult, pictures: Pictures) -> list[Exhibit]:
    """Images that any target mistook, the surest mistake first, each once with all targets that made it."""
    found: dict[str, list[tuple[str, Decision]]] = {}
    for target in result.targets:
        for decision in target.mistakes:
            found.setdefault(decision.key, []).append((target.name, decision))
    ranked = sorted(found.values(), key=lambda made: -max(decision.confidence or 0.0 for _, decision in made))
    return [_mistake(made, pictures, result.model.called) for made in ranked[:MISTAKES]]


def _mistake(made: list[tuple[str, Decision]], pictures: Pictures, called: Called) -> Exhibit:
    first = made[0][1]
    by = [f"{name}: {called(decision.decided)}{_sure(decision.confidence)}" for name, decision in made]
    if len({decision.decided for _, decision in made}) == 1 and len(made) > 1:
        sure = [decision.confidence for _, decision in made if decision.confidence is not None]
        least = f" (at least {min(sure):.0%} sure)" if sure else ""
        by = [f"taken for {called(first.decided)} by {len(made)} targets{least}"]
    return _exhibit(first, pictures, (_label(first, called), *by))


def _exhibit(decision: Decision, pictures: Pictures, lines: tuple[str, ...]) -> Exhibit:
    data = pictures.get(decision.key)
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}" if data else None
    return Exhibit(decision.key, source, f"{decision.key}: {'; '.join(lines)}", lines)


def _label(decision: Decision, called: Called) -> str:
    return f"label {called(decision.label)}" if decision.label is not None else "no label"


def _before(decision: Decision, called: Called) -> str:
    before = "none" if decision.before is None else called(decision.before)
    return f"source: {before}{_sure(decision.confidence_before)}"


def _now(decision: Decision, called: Called) -> str:
    right = {True: ", right", False: ", wrong", None: ""}[
        None if decision.label is None else decision.label == decision.decided
    ]
    return f"now: {called(decision.decided)}{_sure(decision.confidence)}{right}"


def _sure(confidence: float | None) -> str:
    return "" if confidence is None else f" ({confidence:.0%} sure)"
