"""What a look inside the targets found, as the run's report shows it: rewrites, operators, and where accuracy is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..results import RunResult, TargetResult
from .charts import Chart
from .diff import depth_chart, diff_verdict, layers_table
from .optimization import decisions_table, gains_chart, optimization_verdict
from .profile import longest_operators, origin, profile_tables, profile_verdict
from .profile_charts import longest, roofline, types
from .rows import Table

Picture = tuple[str, Chart]  # its title


def targets(result: RunResult) -> list[TargetResult]:
    """Those that were looked into."""
    return [each for each in result.targets if each.optimization or each.profile or each.layers]


def sentences(target: TargetResult) -> list[str]:
    """What was found, a sentence or two for each look."""
    found = []
    if target.optimization:
        found.append(f"Rewrites: {optimization_verdict(target.optimization)}")
    if target.profile:
        found.append(f"Operators: {profile_verdict(target.profile)}")
    if target.layers:
        found.append(f"Layers, against the float ONNX file: {diff_verdict(target.layers)}")
    return found


def tables(target: TargetResult) -> list[Table]:
    """All figures, titled with the target's name."""
    found: list[Table] = []
    if target.optimization:
        found.append(decisions_table(target.optimization))
    if target.profile:
        found += profile_tables(target.profile)
    if target.layers:
        found.append(layers_table(target.layers))
    return [replace(table, title=f"{target.name}: {table.title}") for table in found]


def pictures(target: TargetResult) -> Iterator[Picture]:
    """Charts; their names are unique on the page."""
    if target.optimization and any(decision.timing for decision in target.optimization.decisions):
        yield "What each rewrite gained", gains_chart(target.optimization, f"gains-{target.name}")
    if target.profile:
        yield "Share of the time by operator type", types(target.profile, f"types-{target.name}")
        yield (
            "The longest operators",
            longest({origin(each): each for each in longest_operators(target.profile)}, f"longest-{target.name}"),
        )
        if target.profile.peaks:
            yield "Roofline", roofline(target.profile, f"roofline-{target.name}")
    if target.layers:
        yield (
            "Error of every layer against the float ONNX file, by depth",
            depth_chart(target.layers, f"depth-{target.name}"),
        )
