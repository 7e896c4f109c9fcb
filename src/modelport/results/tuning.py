"""What a tuning found: accuracy beside speed, the front, and the choice."""

from __future__ import annotations

from typing import Literal

from .accuracy import Accuracy, Paired
from .base import Result
from .search import Configuration, Measured, SweepResult


class Goal(Result):
    """What to tune for: most images a second, of all configurations or of those whose p90 latency is within a limit."""

    latency_ms: float | None = None

    @property
    def text(self) -> str:
        """In words."""
        return (
            "throughput"
            if self.latency_ms is None
            else f"throughput at a p90 latency of {self.latency_ms:g} ms or less"
        )


class VariantAccuracy(Result):
    """What one engine at one precision (and resolution) makes of the images.

    Attributes:
        loss_points: what the floor limits. With labels the larger drop of Top1 and Top5 against the reference, percentage
            points; without, the percentage of images with another first prediction. None where it could not be run.
        passed: whether that is within the floor.
        problem: why it could not be run.
    """

    variant: str
    loss_points: float | None
    passed: bool
    accuracy: Accuracy | None = None
    paired: Paired | None = None
    problem: str | None = None


class TuneResult(Result):
    """`tune.json`.

    Attributes:
        max_drop_points: the floor: largest `loss_points` accepted.
        labelled: whether the floor is on accuracy; on decisions where there are no labels.
        reference: what accuracy is held against, in words.
        images, limit, source: what it was measured on.
        accuracies: of the variants that could win, and of the whole front.
        front: configurations than which none has both more throughput and less p90 latency, fastest first.
        winner: None where nothing meets goal and floor.
        problem: then what came closest, and by how much it misses.
    """

    format: Literal["modelport.tune"] = "modelport.tune"
    format_version: Literal[1] = 1
    goal: Goal
    max_drop_points: float
    labelled: bool
    reference: str
    reference_accuracy: Accuracy | None
    images: int
    limit: int | None
    source: str
    sweep: SweepResult
    accuracies: tuple[VariantAccuracy, ...]
    front: tuple[Configuration, ...]
    winner: Configuration | None
    problem: str | None = None

    def accuracy_of(self, configuration: Configuration) -> VariantAccuracy | None:
        """Accuracy of the configuration's variant, if it was measured."""
        return next((found for found in self.accuracies if found.variant == configuration.variant), None)

    def measured(self, configuration: Configuration) -> Measured:
        """Speed of a configuration of the sweep."""
        return next(found for found in self.sweep.configurations if found.configuration == configuration)
