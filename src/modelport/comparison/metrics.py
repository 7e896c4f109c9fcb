"""How far one tensor lies from another, in NumPy and float64. Sums are kept, so images can come batch by batch.

The metrics are those of Huawei's msit and msaccucmp. All values of all images count as one long vector, except for the
divergence, which is taken image by image and averaged. A value that is not finite in A or in B is counted and left out.

- cosine: A·B / (‖A‖ ‖B‖); 1 where both are zero, 0 where one is.
- relative Euclidean distance: ‖B − A‖ / ‖A‖.
- Kullback-Leibler divergence: an image's values become a distribution over their places as in msaccucmp: (x − min) / (max −
  min), at least float32's epsilon, divided by their sum. D(B ‖ A) = Σ b log(b / a), in nats.
- mean relative error: mean of |B − A| / |A|; a value whose |A| is at most float32's epsilon counts as 0, as in msit.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import InferenceError
from ..results.diff import TensorError

_EPSILON = float(np.finfo(np.float32).eps)


class Tally:
    """Errors of one tensor, added up over batches."""

    def __init__(self) -> None:
        self._dot = self._aa = self._bb = self._squares = self._relative = self._largest = self._divergence = 0.0
        self._values = self._images = self._odd_a = self._odd_b = self._odd_differ = 0

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Count one batch of the reference's tensor and the other's; the first axis is images.

        Raises:
            InferenceError: their shapes differ.
        """
        if a.shape != b.shape:
            raise InferenceError(f"a tensor has shape {_show(a.shape)} in A and {_show(b.shape)} in B")
        rows = len(a) if a.ndim else 1
        for ours, theirs in zip(a.reshape(rows, -1), b.reshape(rows, -1), strict=True):  # bounds the float64 copies
            self._add_image(ours.astype(np.float64), theirs.astype(np.float64))

    def _add_image(self, a: np.ndarray, b: np.ndarray) -> None:
        fine_a, fine_b = np.isfinite(a), np.isfinite(b)
        if not (fine_a.all() and fine_b.all()):
            self._odd_a += int((~fine_a).sum())
            self._odd_b += int((~fine_b).sum())
            alike = (a == b) | (np.isnan(a) & np.isnan(b))
            self._odd_differ += int((~(fine_a & fine_b) & ~alike).sum())
            a, b = a[fine_a & fine_b], b[fine_a & fine_b]
        if not a.size:
            return
        error = np.abs(b - a)
        self._dot += _dot(a, b)
        self._aa += _dot(a, a)
        self._bb += _dot(b, b)
        self._squares += _dot(error, error)
        self._largest = max(self._largest, float(error.max()))
        size = np.abs(a)
        self._relative += float(np.divide(error, size, out=np.zeros_like(error), where=size > _EPSILON).sum())
        self._divergence += _divergence(b, a)
        self._values += a.size
        self._images += 1

    def result(self) -> TensorError:
        """The errors of all that was added; NaN where no value was finite."""
        values = self._values or math.nan
        return TensorError(
            cosine=self._cosine() if self._values else math.nan,
            max_abs_error=self._largest if self._values else math.nan,
            relative_distance=_ratio(math.sqrt(self._squares), math.sqrt(self._aa)) if self._values else math.nan,
            kl_divergence=self._divergence / (self._images or math.nan),
            rmse=math.sqrt(self._squares / values),
            mean_relative_error=self._relative / values,
            values=self._values,
            non_finite_a=self._odd_a,
            non_finite_b=self._odd_b,
            non_finite_differ=self._odd_differ,
        )

    def _cosine(self) -> float:
        if not self._aa or not self._bb:
            return float(self._aa == self._bb)
        return min(1.0, self._dot / (math.sqrt(self._aa) * math.sqrt(self._bb)))


def compare(a: np.ndarray, b: np.ndarray) -> TensorError:
    """Errors of B's tensor against A's; the first axis is images."""
    tally = Tally()
    tally.add(a, b)
    return tally.result()


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """Not `a @ b`: BLAS would wake all its threads for a vector that one adds up sooner."""
    return float(np.einsum("i,i->", a, b))


def _ratio(part: float, whole: float) -> float:
    if whole:
        return part / whole
    return math.inf if part else 0.0


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    p, q = _distribution(p), _distribution(q)
    return max(0.0, _dot(p, np.log(p / q)))


def _distribution(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low) if high > low else np.ones_like(values)
    scaled = np.maximum(scaled, _EPSILON)
    return scaled / scaled.sum()


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
