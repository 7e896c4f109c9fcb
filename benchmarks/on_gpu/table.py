"""The short table that is printed last: figures, what was asked for, and what was left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from .pure import PEER

_ASKED = {"ratio": 1.15, "ratio_at_1": 2.0, "images_per_s": 15_000, "decisions": 0.995, "end_to_end": 0.9}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Of the record's sections; what is not there is left out."""
    machine = found.get("machine", {})
    yield f"{machine.get('device')}, PyTorch {machine.get('torch')}, {found.get('dtype')}, {found.get('size')} px"
    if check := found.get("correctness"):
        yield from _correctness(check)
    if pure := found.get("pure"):
        yield from _pure(pure)
        yield from _best(pure, found)
    for batch, times in (found.get("split") or {}).items():
        parts = ", ".join(
            f"{name.removesuffix('_ms').replace('_', ' ')} {value:.2f} ms" for name, value in times.items()
        )
        yield f"one batch of {batch}: {parts}"
    for way, told in (found.get("end_to_end") or {}).items():
        yield from _way(way, told)
    yield from _left_out(found.get("left_out", ()))
    yield from (f"FAILED: {what}" for what in found.get("failed", ()))


def _correctness(check: dict[str, Any]) -> Iterator[str]:
    for name in ("reference", "on_the_processor"):
        if told := check.get(name):
            yield f"{told['what']}: error {told['error']:.2g} of the norm, {told['images']} photos"
    if told := check.get("decisions"):
        same = _verdict(told["same"], _ASKED["decisions"], f"{told['same']:.2%}", f"{_ASKED['decisions']:.1%}")
        yield f"decisions equal to float32's on {told['images']} photos: {same}; {told['right']:.0%} name the photo's class"


def _pure(pure: dict[str, Any]) -> Iterator[str]:
    batches = sorted(pure, key=int)
    names = list(dict.fromkeys(name for batch in batches for name in pure[batch]["contestants"]))
    width = max(map(len, [*names, "best / eager, channels last"])) + 2
    yield "pure inference, images a second (median)".ljust(width) + "".join(f"{batch:>9}" for batch in batches)
    for name in names:
        rates = (pure[batch]["contestants"].get(name) for batch in batches)
        yield name.ljust(width) + "".join(f"{told['images_per_s']:9,.0f}" if told else f"{'-':>9}" for told in rates)
    peers = list(dict.fromkeys(name for batch in batches for name in pure[batch].get("ratios", ())))
    for peer in peers:
        ratios = (pure[batch].get("ratios", {}).get(peer) for batch in batches)
        yield f"best / {peer}".ljust(width) + "".join(
            f"{told['median']:9.2f}" if told else f"{'-':>9}" for told in ratios
        )
    if any(PEER in pure[batch].get("ratios", {}) for batch in batches):
        missed = [
            batch
            for batch in batches
            if (told := pure[batch].get("ratios", {}).get(PEER))
            and told["median"] < _ASKED["ratio_at_1" if batch == "1" else "ratio"]
        ]
        asked = f"{_ASKED['ratio']:g} at every batch, {_ASKED['ratio_at_1']:g} at batch 1"
        yield f"best / {PEER}: asked {asked}: " + (f"MISSED at batch {', '.join(missed)}" if missed else "reached")


def _best(pure: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    rates = {
        batch: told["contestants"][told["best"]]["images_per_s"] for batch, told in pure.items() if told.get("best")
    }
    if not rates:
        return
    batch = max(rates, key=lambda batch: rates[batch])
    rate = rates[batch]
    asked = _verdict(rate, _ASKED["images_per_s"], f"{rate:,.0f} images a second", f"{_ASKED['images_per_s']:,}")
    yield f"fastest: {pure[batch]['best']}, batch {batch}: {asked}"
    limits, work = found.get("limits"), found.get("work")
    if limits and work:
        operations = rate * work["operations"] / limits["matmul_operations_per_s"]
        moved = rate * work["bytes"] / limits["copy_bytes_per_s"]
        yield (
            f"  that is {operations:.0%} of the measured matrix products ({limits['matmul_operations_per_s'] / 1e12:,.1f} Top/s) "
            f"and, each convolution's input and output once, {moved:.0%} of the measured copying "
            f"({limits['copy_bytes_per_s'] / 1e9:,.0f} GB/s)"
        )


def _way(way: str, told: dict[str, Any]) -> Iterator[str]:
    reached = _verdict(told["of_limit"], _ASKED["end_to_end"], f"{told['of_limit']:.1%}", f"{_ASKED['end_to_end']:.0%}")
    yield (
        f"end to end, {way}: {told['images_per_s']:,.0f} images a second; alone: filling {told['filling_alone']:,.0f}, "
        f"computing {told['pure']:,.0f}; limited by {told['limited_by']}; of that limit {reached}"
    )
    if check := told.get("against_pillow"):
        yield (
            f"  against Pillow's pixels, on {check['images']} photos: at most {check['largest_difference']} of 255, on average "
            f"{check['mean_difference']:.2f}; {check['changed_decisions']} decisions changed"
        )


def _left_out(what: Iterable[str]) -> Iterator[str]:
    """A line for each reason and contestant; the record has one for each batch."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in what:
        name, _, reason = entry.partition(": ")
        name, _, batch = name.partition(", batch ")
        reason = re.sub(r"\d+ s$", "its time", reason) if batch else reason
        groups.setdefault((name, reason), []).append(batch)
    for (name, reason), batches in groups.items():
        yield f"LEFT OUT: {name}" + (f", batch {', '.join(batches)}" if batches[0] else "") + f": {reason}"


def _verdict(value: float, asked: float, shown: str, asked_shown: str) -> str:
    return f"{shown} (asked {asked_shown}: {'reached' if value >= asked else 'MISSED'})"
