"""What a layer-by-layer comparison found: errors by tensor, the operator that falls out, and what mending it cost."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import computed_field

from .accuracy import Accuracy, Paired
from .base import Environment, Result


class TensorError(Result):
    """How far tensor B lies from tensor A, over all images (in float64; see `comparison.metrics` for the formulas).

    Attributes:
        cosine: cosine similarity; 1 where both are zero.
        max_abs_error: largest |B − A|.
        relative_distance: relative Euclidean distance, ‖B − A‖ / ‖A‖; infinite where only A is zero.
        kl_divergence: of B's values from A's, in nats, the mean over images.
        rmse: root mean square error.
        mean_relative_error: mean of |B − A| / |A|. Values near zero make it large without meaning.
        values: how many values were compared.
        non_finite_a, non_finite_b: NaN and infinities in A and in B. Where either has one, the value is left out above.
        non_finite_differ: values of which only one is finite, or which are different infinities.
    """

    cosine: float
    max_abs_error: float
    relative_distance: float
    kl_divergence: float
    rmse: float
    mean_relative_error: float
    values: int
    non_finite_a: int = 0
    non_finite_b: int = 0
    non_finite_differ: int = 0


class Marks(Result):
    """Pass marks of a tensor. A mark that is None is not applied.

    Attributes:
        cosine: passed above it.
        relative_distance, kl_divergence, rmse, mean_relative_error: passed below.
    """

    cosine: float | None = None
    relative_distance: float | None = None
    kl_divergence: float | None = None
    rmse: float | None = None
    mean_relative_error: float | None = None

    def missed(self, error: TensorError) -> tuple[str, ...]:
        """The marks that a tensor does not reach."""
        found = ["not finite"] if error.non_finite_differ else []
        if self.cosine is not None and not error.cosine > self.cosine:
            found.append("cosine")
        for name in ("relative_distance", "kl_divergence", "rmse", "mean_relative_error"):
            mark = getattr(self, name)
            if mark is not None and not getattr(error, name) < mark:
                found.append(name)
        return tuple(found)

    def severity(self, error: TensorError) -> float:
        """How far out a tensor is, in units of the marks that do not depend on its scale: 1 or more has fallen out.

        The largest of distance ÷ mark, (1 − cosine) ÷ (1 − mark) and divergence ÷ mark; infinite where values differ in
        being finite. RMSE depends on the tensor's unit, and the mean relative error on its values near zero, so neither
        decides: on a good INT8 model most layers miss the latter.
        """
        if error.non_finite_differ:
            return math.inf
        found = []
        if self.relative_distance is not None:
            found.append(error.relative_distance / self.relative_distance)
        if self.cosine is not None:
            found.append((1 - error.cosine) / (1 - self.cosine))
        if self.kl_divergence is not None:
            found.append(error.kl_divergence / self.kl_divergence)
        return max((math.inf if math.isnan(value) else value for value in found), default=0.0)


MSIT_MARKS = Marks(cosine=0.99, relative_distance=0.05, kl_divergence=0.005, rmse=1.0, mean_relative_error=1.0)
EXACT_MARKS = Marks(relative_distance=1e-4)  # both compute in float32: only algorithms and the order of sums may differ
PLAIN_MARKS = Marks(
    relative_distance=1e-5
)  # two files run by the same kernels, operator by operator: only a rewrite's rounding


class LayerError(Result):
    """One operator's result in A and B.

    Attributes:
        operator: its name in the ONNX file, or its result's where it has none; of several the heavy one.
        operators: all operators from the tensors before it to this one: more than one where an engine fuses them, or where B
            lacks the tensors between them.
        op_type: their types, such as `Conv → LeakyRelu`.
        tensor: name of the result.
        depth: place in A's topological order, from 1, among the tensors that are compared.
        dtype, shape: of the result in B, batch first.
        error: B's result against A's; what it inherited from its inputs included.
        own: the operator's own error: B's result against A's operator on B's own inputs. None where not measured.
    """

    operator: str
    operators: tuple[str, ...]
    op_type: str
    tensor: str
    depth: int
    dtype: str
    shape: tuple[int, ...]
    error: TensorError
    own: TensorError | None = None


class Side(Result):
    """One of the two stages that were compared.

    Attributes:
        name: as it was given.
        kind: a checkpoint, an ONNX file as it is, or a model of an engine.
        runs: what computed it, in words.
        engine, precision: None for PyTorch; `precision` is that of the heavy operators.
        exact: whether it computes in float32 throughout.
        onnx: the ONNX file whose tensors were looked at; None for a checkpoint.
        onnx_sha256: its digest.
    """

    name: str
    kind: Literal["checkpoint", "onnx", "offline model", "engine", "fp16 emulation"]
    runs: str
    engine: str | None
    precision: str
    exact: bool
    onnx: str | None
    onnx_sha256: str | None


class Matched(Result):
    """How the tensors of A and B were matched, by name.

    Attributes:
        a, b: float tensors of each that depend on the image.
        common: of the same name and shape.
        compared: those that were searched: not those that an engine fuses away between two operators, nor those that do
            not lead to the scores.
        other_shape: of the same name, but another shape.
    """

    a: int
    b: int
    common: int
    compared: int
    other_shape: int


class Runs(Result):
    """How often something was compiled and run over all images: A with tapped tensors, B likewise, single operators of A."""

    a: int
    b: int
    operators: int


class Culprit(Result):
    """The operator where B leaves A.

    Attributes:
        layer: its errors.
        kind: `own` where its own error misses the marks; `accumulated` where only the sum of many small ones does.
        inherited: the worst of its inputs in B against A; None where its input is the image.
        level: errors of this many times the marks were searched for. Above 1 where the first operator beyond the marks is
            only the last of many small errors, while another, deeper one is far out.
        crossed_at: then, the operator at which the marks are first missed.
        differs: how the operator in B's file differs from A's: attributes, weights.
        keep_float: operators to keep in floating point, in an int8 comparison.
    """

    layer: LayerError
    kind: Literal["own", "accumulated"]
    inherited: TensorError | None
    level: float = 1.0
    crossed_at: str | None = None
    differs: tuple[str, ...] = ()
    keep_float: tuple[str, ...] = ()


class FixStep(Result):
    """One quantisation with some operators in floating point.

    Attributes:
        kept: how many operators.
        loss_points: with labels, A's top-1 less this one's, percentage points; without, the percentage of images with
            another first prediction. None where it could not be run.
        passed: whether that is within the floor.
        accuracy: None without labels.
        paired: decisions against A's.
        problem: why it could not be run.
    """

    kept: int
    loss_points: float | None
    passed: bool
    accuracy: Accuracy | None = None
    paired: Paired | None = None
    problem: str | None = None


class FixResult(Result):
    """How many operators must stay in floating point so that INT8 keeps its floor.

    Attributes:
        max_drop_points: the floor.
        labelled: whether it is on top-1; on decisions where there are no labels.
        images: that it was measured on.
        engine: that it was measured with.
        reference: A's accuracy, where there are labels.
        candidates: how many operators could be kept in floating point.
        steps: the quantisations that were tried, in this order; the first is B as it was.
        kept: operators in floating point in the end, worst first, by their own error.
        output: name of the quantised file in the output directory; None where B needed none, or nothing held the floor.
    """

    max_drop_points: float
    labelled: bool
    images: int
    engine: str
    reference: Accuracy | None
    candidates: int
    steps: tuple[FixStep, ...]
    kept: tuple[str, ...]
    output: str | None

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether the floor holds in the end."""
        return any(step.passed for step in self.steps)


class DiffResult(Result):
    """`diff.json`.

    Attributes:
        marks: that decide.
        exact: whether both compute in float32, so that the marks are tight ones.
        images, source: what both ran on; `source` None is noise.
        max_taps: most tensors that were looked at in one run.
        whole: whether all layers were compared; else only those that the search for the first one needed.
        layers: those that were compared, in A's order.
        scores: the models' scores as they run without any tap.
        tapping: B's scores with taps against those without, the worst of all runs: how much looking changed B.
        culprit: None where no operator falls out.
        recovers: the scores are within the marks although an operator before them is not.
    """

    format: Literal["modelport.diff"] = "modelport.diff"
    format_version: Literal[1] = 1
    a: Side
    b: Side
    arch: str
    marks: Marks
    exact: bool
    images: int
    source: str | None
    matched: Matched
    runs: Runs
    max_taps: int
    whole: bool
    layers: tuple[LayerError, ...]
    scores: TensorError
    tapping: TensorError | None
    culprit: Culprit | None
    recovers: bool = False
    fix: FixResult | None = None
    environment: Environment

    @property
    def worst(self) -> LayerError:
        """The layer that is farthest out, by its own error where that is known."""
        return max(self.layers, key=lambda layer: self.marks.severity(layer.own or layer.error))

    def missed(self, layer: LayerError) -> tuple[str, ...]:
        """The marks that a layer does not reach, inherited errors included."""
        return self.marks.missed(layer.error)
