"""A page of HTML that needs no network, from a template: of the run's report, a profile, a comparison, a tuning."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def page(template: str, **values: Any) -> str:
    """A template filled in. Everything that comes from files is escaped."""
    environment = Environment(
        loader=PackageLoader("modelport.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
