"""The guide's device ids on whatever engine there is."""

from __future__ import annotations

import logging
from pathlib import Path

from ..engines import load, open_model
from ..engines.session import Session, SessionOptions
from ..offline import OfflineModel

log = logging.getLogger("modelport")


def options_for(model: OfflineModel, device: int) -> SessionOptions:
    """How to open a model on a device id. A processor is one device, which every id stands for; that is said."""
    engine = load(model.manifest.engine.name)
    if engine.on_accelerator(model):
        return SessionOptions(devices=(device,))
    if device != 0:
        log.warning("device %d: %s runs on this machine's processor, which all ids share", device, engine.title)
    return SessionOptions()


def open_on(model: str | Path | OfflineModel, device: int) -> Session:
    """Open an offline model on one device id."""
    if not isinstance(model, OfflineModel):
        model = OfflineModel.load(Path(model))
    return open_model(model, options_for(model, device))
