"""What MLCommons' LoadGen said of a model: its verdict, its figures, and how far its settings were MLPerf's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, computed_field

from ..spec import ModelSpec
from .accuracy import Accuracy
from .base import Environment, Result
from .performance import Hygiene, Target

Scenario = Literal["Offline", "SingleStream", "MultiStream", "Server"]


class LoadGenFigure(Result):
    """The figure that the scenario is about, such as a 90th percentile of latency, in milliseconds."""

    name: str
    value: float
    unit: str


class LoadGenResult(Target):
    """`loadgen.json`: one run under LoadGen. Never a result of MLPerf, which MLCommons publishes after a review.

    Attributes:
        scenario: how queries came.
        mode: performance, or accuracy: each image once, and nothing said of speed.
        quick: seconds instead of ten minutes; unofficial.
        deviations: in which points the run is not what MLPerf asks for.
        loadgen_version: of MLCommons' package.
        model: the network.
        source: where the images come from.
        images: how many there are.
        limit: the `--limit` that chose them.
        valid: LoadGen's verdict; None in accuracy mode, which has none.
        reasons: why it is not valid.
        errors: what LoadGen logged as errors.
        figure: what the scenario measures; None in accuracy mode.
        queries, samples: that were answered; None in accuracy mode.
        latency_ms: of a query in MultiStream, of a sample elsewhere: least, mean, most, and percentiles.
        settings: LoadGen's effective settings.
        accuracy: TopN of the answers; None without labels, and in performance mode.
        logs: LoadGen's files, beside this one.
        wall_s: of the whole run, loading and warming up included.
        hygiene: whether the machine was ours alone.
    """

    format: Literal["modelport.loadgen"] = "modelport.loadgen"
    format_version: Literal[1] = 1
    scenario: Scenario
    mode: Literal["performance", "accuracy"]
    quick: bool
    deviations: tuple[str, ...]
    loadgen_version: str
    model: ModelSpec
    source: str
    images: int
    limit: int | None
    valid: bool | None
    reasons: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    figure: LoadGenFigure | None = None
    queries: int | None = None
    samples: int | None = None
    latency_ms: dict[str, float] = Field(default_factory=dict)
    settings: dict[str, bool | int | float | str] = Field(default_factory=dict)
    accuracy: Accuracy | None = None
    logs: tuple[str, ...] = ()
    wall_s: float
    environment: Environment
    hygiene: Hygiene | None = None

    @computed_field
    @property
    def verdict(self) -> str:
        """VALID or INVALID as LoadGen says; where settings were not MLPerf's, that is said in the same breath."""
        word = "accuracy run" if self.valid is None else "VALID" if self.valid else "INVALID"
        return f"{word} (quick settings, unofficial)" if self.quick else word
