"""Accuracy: counts with their denominators, comparisons with the source, and the gate."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import computed_field

from .base import Result


class Interval(Result):
    """A 95 % confidence interval of a fraction."""

    low: float
    high: float


class ClassAccuracy(Result):
    """How one class fared: its labelled images that were predicted, and how many of them were right first, and in the first five."""

    label: int
    images: int
    top1: int
    top5: int


class Confusion(Result):
    """How many images of one class were first taken for another."""

    label: int
    predicted: int
    images: int


class Accuracy(Result):
    """TopN accuracy by image name.

    Attributes:
        images: the denominator: labelled images that were asked for. Missing and failed ones are in it, as wrong.
        classes: width of the model's output.
        hits: images whose label was among the first 1, 2, … 5 predictions.
        missing: labelled images without a prediction, counted as wrong.
        not_requested: labelled images that `--limit` left out, not counted.
        extra: predicted images without a label, not counted.
        failed: images that could not be classified, counted as wrong.
        first_missing, first_extra: examples, at most five each.
        mean_class_top1: mean over the classes of the share of their predicted images that is right: each class counts alike.
        worst_classes: the twenty classes with the smallest such share, worst first.
        most_confused: the twenty pairs of classes that are most often confused, most often first.
        matrix: images by their class (row) and the class that they were taken for (column), without failed and missing ones;
            empty with more than a hundred classes, and in results of an earlier version.
    """

    images: int
    classes: int
    hits: tuple[int, ...]
    missing: int = 0
    not_requested: int = 0
    extra: int = 0
    failed: int = 0
    first_missing: tuple[str, ...] = ()
    first_extra: tuple[str, ...] = ()
    mean_class_top1: float | None = None
    worst_classes: tuple[ClassAccuracy, ...] = ()
    most_confused: tuple[Confusion, ...] = ()
    matrix: tuple[tuple[int, ...], ...] = ()

    @computed_field
    @cached_property
    def topn(self) -> tuple[float, ...]:
        """Top1…Top5 as fractions of `images`."""
        return tuple(hits / self.images for hits in self.hits)

    @computed_field
    @cached_property
    def interval95(self) -> tuple[Interval, ...]:
        """Wilson score intervals of Top1…Top5 (Wilson 1927; SciPy's `proportion_ci`)."""
        from scipy.stats import binomtest

        bounds = (binomtest(hits, self.images).proportion_ci(0.95, method="wilson") for hits in self.hits)
        return tuple(Interval(low=float(b.low), high=float(b.high)) for b in bounds)


class Parity(Result):
    """Scores of one model held against those of its source on the same inputs.

    Attributes:
        against: what the scores are compared with.
        samples: inputs compared.
        max_abs_error, mean_abs_error: over all scores.
        scale: largest absolute score of the source.
        cosine: smallest cosine similarity of a sample's scores.
        top1_agreement: fraction of samples with the same first prediction.
        tolerance: the largest `relative_error` accepted; None where it is only reported.
    """

    against: str
    samples: int
    max_abs_error: float
    mean_abs_error: float
    scale: float
    cosine: float
    top1_agreement: float
    tolerance: float | None = None

    @computed_field
    @property
    def relative_error(self) -> float:
        """Largest error as a share of the largest score: comparable between networks whose scores differ in size."""
        return self.max_abs_error / self.scale if self.scale else self.max_abs_error

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether the largest error is within the tolerance (a NaN is not)."""
        return self.tolerance is None or self.relative_error <= self.tolerance


class Paired(Result):
    """Decisions of one model held against another's on the same images.

    Attributes:
        images: images compared, labelled or not.
        changed: those whose first prediction differs.
        lost: labelled images right by the reference, wrong here.
        gained: wrong by the reference, right here.
        p_value: exact McNemar test, two-sided: the chance of a split at least as uneven as lost : gained if neither
            model were better (McNemar 1947; a binomial test of `lost` out of lost + gained at 1/2).
    """

    against: str
    images: int
    changed: int
    lost: int
    gained: int
    p_value: float


class Decision(Result):
    """What was decided of one image that the reports show.

    Attributes:
        key: its name.
        label: its class, if known.
        decided: the class that the target put first.
        confidence: that class's share of the softmax of its scores; None where scores were not kept.
        before: the class that the source put first; None where there is no source.
        confidence_before: likewise, by the source.
    """

    key: str
    label: int | None
    decided: int
    confidence: float | None = None
    before: int | None = None
    confidence_before: float | None = None


class GateCheck(Result):
    """One comparison of the gate.

    Attributes:
        name: what is compared with what.
        unit: `points` (percentage points of accuracy, measured and reference in per cent) or `relative` (share of the
            largest score).
        reference: the figure that `measured` is held against; None where `limit` alone decides.
        measured: what was found.
        limit: the largest drop, or the largest error, that passes.
    """

    name: str
    unit: Literal["points", "relative"]
    reference: float | None
    measured: float
    limit: float
    passed: bool

    @computed_field
    @property
    def drop(self) -> float:
        """Reference − measured, negative for a gain; the measured error itself where there is no reference."""
        return self.measured if self.reference is None else self.reference - self.measured


class Gate(Result):
    """The verdict: every drop within the tolerance, every f32 parity within its own."""

    tolerance_points: float
    checks: tuple[GateCheck, ...]

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


class ReferenceAccuracy(Result):
    """A recorded accuracy, in per cent, and where it comes from."""

    source: str
    top1: float
    top5: float | None = None
