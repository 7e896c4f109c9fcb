"""A page of HTML that needs no network, from a template on `base.html.j2`: of the run's report, a profile, a comparison, a tuning."""

from __future__ import annotations

import base64
import gzip
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .charts import DARK


def page(template: str, *, library: bool = True, **values: Any) -> str:
    """A template filled in. Everything that comes from files is escaped.

    Args:
        template: its name in `templates`.
        library: put the plotting library in; a page without a chart needs none.
        values: what the template asks for.
    """
    environment = Environment(
        loader=PackageLoader("modelport.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    packed = Markup(packed_library()) if library else None
    return environment.get_template(template).render(library=packed, dark=DARK, **values)


@lru_cache(maxsize=1)
def packed_library() -> str:
    """Plotly's JavaScript, whole, as gzip in base64: 2 MB instead of 5. Browsers have unpacked it themselves since 2023."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii")
