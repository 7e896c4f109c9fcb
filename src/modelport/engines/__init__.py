"""Engines: the runtimes that compile and run offline models. One file each, one row in the table below."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path

from ..errors import EngineUnavailableError
from ..offline import OfflineModel
from .base import Engine
from .session import Session, SessionOptions

_TABLE = {
    "ascend": "ascend:AscendEngine",
    "inductor": "inductor:InductorEngine",
    "null": "null:NullEngine",
    "onnxruntime": "onnxruntime:OnnxRuntimeEngine",
    "openvino": "openvino:OpenVinoEngine",
}


def names() -> list[str]:
    """Names of all engines, whether or not their runtimes are installed."""
    return sorted(_TABLE)


def load(name: str) -> Engine:
    """The engine of this name. Its runtime is imported only when it is used.

    Raises:
        EngineUnavailableError: no engine has this name.
    """
    if name not in _TABLE:
        close = difflib.get_close_matches(name, _TABLE, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names())}"
        raise EngineUnavailableError(f"no engine is called {name!r}; {hint}")
    module, _, attribute = _TABLE[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)()


def open_model(model: OfflineModel | Path | str, options: SessionOptions | None = None) -> Session:
    """Open an offline model (or the directory of one) with the engine that compiled it.

    Raises:
        FormatError: the directory is no intact offline model.
        EngineUnavailableError: its runtime is missing, is another version, or this is another kind of processor.
    """
    if not isinstance(model, OfflineModel):
        model = OfflineModel.load(Path(model))
    return load(model.manifest.engine.name).open(model, options or SessionOptions())
