"""Passes that rewrite a graph and leave its function as it is. One file each, one row in the table below, in the order of use.

They work on onnx-ir's graphs, which are part of the extra `optimize`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ...errors import EngineUnavailableError

if TYPE_CHECKING:
    from .base import GraphPass

_TABLE = {
    "fold_normalization": "fold_normalization:FoldNormalization",
    "simplify": "simplify:Simplify",
    "split_convolutions": "split_convolutions:SplitConvolutions",
    "sum_concat_convolution": "sum_concat_convolution:SumConcatConvolution",
    "merge_groups": "merge_groups:MergeGroups",
}
_WITH_WIDTH = frozenset({"merge_groups"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A pass to try. `asked` says that the user named exactly this one, so that it may be applied unmeasured."""

    graph_pass: GraphPass
    asked: bool


def names() -> list[str]:
    """Names of all passes, in the order in which they are applied."""
    return list(_TABLE)


def require_known(wanted: Sequence[str]) -> None:
    """Raise ValueError, with what was probably meant, unless each is the name of a pass, with its width where it takes one."""
    for name in wanted:
        plain, colon, width = name.partition(":")
        if plain not in _TABLE:
            close = difflib.get_close_matches(plain, _TABLE, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(_TABLE)}"
            raise ValueError(f"no pass is called {plain!r}; {hint}")
        if colon and plain not in _WITH_WIDTH:
            raise ValueError(f"pass {plain!r} takes nothing behind a colon, got {name!r}")
        if colon and not (width.isdecimal() and int(width) >= 2):
            raise ValueError(f"pass {plain!r} takes a width of 2 or more, such as {plain}:16; got {name!r}")


def select(names_: Sequence[str] | None = None) -> list[Choice]:
    """The passes of these names in the table's order, each in all variants worth trying; None takes all.

    Args:
        names_: such as `split_convolutions`, or `merge_groups:16` for one variant.

    Raises:
        ValueError: no pass has such a name or width.
        EngineUnavailableError: onnx-ir or onnxscript is not installed.
    """
    wanted = list(_TABLE) if names_ is None else list(dict.fromkeys(names_))
    require_known(wanted)
    _require_libraries()
    choices = []
    for plain, place in _TABLE.items():
        module, _, attribute = place.partition(":")
        for name in wanted:
            if name.partition(":")[0] == plain:
                width = int(name.partition(":")[2]) if ":" in name else None
                variants = getattr(import_module(f"{__name__}.{module}"), attribute).variants(width)
                asked = names_ is not None and len(variants) == 1
                choices += [Choice(graph_pass=variant, asked=asked) for variant in variants]
    return choices


def _require_libraries() -> None:
    try:
        import onnx_ir  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise EngineUnavailableError(
            f"rewriting graphs needs onnx-ir and onnxscript ({error}): pip install 'modelport[optimize]'"
        ) from error
