"""The forecast of a run on a cluster, as a table."""

from __future__ import annotations

from ..results import ScalePlan
from .rows import Table


def plan_tables(plan: ScalePlan) -> list[Table]:
    """What it would take, and what each resource alone would allow."""
    load, lowest = plan.load, plan.limits[0]
    hours = plan.wall_s / 3600
    rows = [
        ("images", f"{load.images:,} in {plan.shards:,} shards, {_bytes(load.images * load.image_bytes)} to read"),
        ("cluster", f"{load.nodes:,} nodes, {load.devices} devices and {load.cores:g} cores each"),
        ("forecast", f"{plan.rate:,.0f} img/s, {hours:,.1f} hours"),
        ("limited by", f"{lowest.name}; {load.efficiency:.0%} of its rate is taken as what scheduling leaves"),
        ("runs", f"{plan.runs:,}, so that each plan fits {_bytes(load.driver_bytes)} of the driver's memory"),
        ("predictions", _bytes(load.images * load.part_bytes)),
        ("a killed device costs", f"{plan.at_risk_s:,.1f} s of it, done again"),
    ]
    known = ", ".join(plan.measured) or "none"
    limits = [(limit.name, f"{limit.rate:,.0f}", f"{limit.rate / lowest.rate:.2f}", limit.how) for limit in plan.limits]
    notes = [
        f"Taken from a measured run: {known}. All else was given or is a default; docs/scaling.md says which of those were measured."
    ]
    return [
        Table("Forecast, not a measurement", ("", ""), rows),
        Table(
            "What each alone would allow",
            ("resource", "img/s", "÷ lowest", "follows from"),
            limits,
            frozenset({1, 2}),
            notes,
        ),
    ]


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} PB"
