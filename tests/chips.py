"""Where the stand-ins of Ascend's software lie, and options that suit any engine."""

from __future__ import annotations

from pathlib import Path

import torch_models

from modelport import engines
from modelport.engines.base import CompileOptions
from modelport.spec import Precision

STANDINS = Path(__file__).parent / "standins"
CANN_VERSION = "8.0.RC3"
SOC_VERSION = "Ascend310"


def engine_options(engine: str, batch_size: int = 1, precision: Precision | None = None) -> CompileOptions:
    """Options that suit any engine: its own precision, a chip where it wants one, the tiny classifier's program likewise."""
    chosen = engines.load(engine)
    return CompileOptions(
        precision=precision or chosen.precisions[0],
        batch_size=batch_size,
        soc_version=SOC_VERSION if chosen.accelerator else None,
        program=str(torch_models.tiny_program(batch_size)) if chosen.from_program else None,
    )
