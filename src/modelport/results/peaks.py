"""What the machine can do at most, as measured: the roofs that an operator or a network is held against."""

from __future__ import annotations

from ..spec import Precision
from .base import Result


class MachinePeaks(Result):
    """Measured limits of all usable cores together.

    Attributes:
        engine: the engine whose matrix products were timed.
        operations: operations a second of large matrix products by executed precision; a multiply-add counts as two.
        bandwidth: bytes a second of copying arrays that fit no cache, those read and those written together.
    """

    engine: str
    operations: dict[Precision, float]
    bandwidth: float
