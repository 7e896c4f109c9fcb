"""`modelport doctor`."""

from __future__ import annotations

import click

from .shared import emit, json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Say which engines run here, in which precision they really execute, and why the others do not."""
    from ..measure.doctor import examine
    from ..report.rows import Table

    found = examine()
    env = found.environment
    machine = [
        ("processor", f"{env.cpu} ({env.cpu_family}), {env.cores} cores usable, {env.memory_bytes / 2**30:.0f} GiB"),
        ("features", " ".join(env.cpu_features)),
        ("system", f"{env.system}, {env.machine}, Python {env.python}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in env.packages.items())),
    ]
    engines = [
        (check.engine, check.version or "—", check.precision, check.executed or "—", check.problem or "ready")
        for check in found.engines
    ]
    emit(
        found.jsonable(),
        as_json,
        Table("Machine", ("", ""), machine),
        Table("Engines", ("engine", "version", "asked for", "really executes", "state"), engines),
    )
