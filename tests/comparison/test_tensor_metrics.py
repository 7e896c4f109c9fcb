"""Errors between two tensors, held against their formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import entropy

from modelport.comparison.metrics import Tally, compare
from modelport.errors import InferenceError
from modelport.results.diff import MSIT_MARKS, Marks

EPSILON = np.finfo(np.float32).eps


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    a = rng.standard_normal((3, 4, 5)).astype(np.float32)
    return a, a + rng.standard_normal(a.shape).astype(np.float32) / 10


def test_each_metric_is_its_formula(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (tensor.astype(np.float64) for tensor in pair)
    found = compare(*pair)
    assert found.cosine == pytest.approx((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))
    assert found.max_abs_error == np.abs(b - a).max()
    assert found.relative_distance == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a))
    assert found.rmse == pytest.approx(math.sqrt(((b - a) ** 2).mean()))
    assert found.mean_relative_error == pytest.approx((np.abs(b - a) / np.abs(a)).mean())
    assert found.values == 60


def test_the_divergence_is_of_b_from_a_and_the_mean_over_images(pair: tuple[np.ndarray, np.ndarray]) -> None:
    def distribution(image: np.ndarray) -> np.ndarray:
        values = image.astype(np.float64).ravel()
        return np.maximum((values - values.min()) / (values.max() - values.min()), EPSILON)

    a, b = pair
    expected = np.mean([entropy(distribution(theirs), distribution(ours)) for ours, theirs in zip(a, b, strict=True)])
    assert compare(a, b).kl_divergence == pytest.approx(expected)


def test_batches_add_up_to_the_whole(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    tally = Tally()
    tally.add(a[:1], b[:1])
    tally.add(a[1:], b[1:])
    whole = compare(a, b).model_dump()
    assert tally.result().model_dump() == pytest.approx(whole)


def test_the_same_tensor_is_no_error_at_all(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found = compare(pair[0], pair[0])
    assert (found.max_abs_error, found.relative_distance, found.kl_divergence, found.rmse) == (0, 0, 0, 0)
    assert found.cosine == pytest.approx(1)
    assert MSIT_MARKS.missed(found) == ()


def test_zeros_are_alike_and_unlike_everything_else() -> None:
    zero, one = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    both, only_a, only_b = compare(zero, zero), compare(zero, one), compare(one, zero)
    assert (both.cosine, both.relative_distance, both.mean_relative_error) == (1, 0, 0)
    assert (only_a.cosine, only_a.relative_distance) == (0, math.inf)
    assert (only_b.cosine, only_b.relative_distance) == (0, 1)


def test_values_near_zero_do_not_count_in_the_mean_relative_error() -> None:
    a = np.array([[1.0, EPSILON / 2]])
    assert compare(a, np.array([[1.5, 1.0]])).mean_relative_error == 0.25


def test_what_is_not_finite_is_counted_left_out_and_falls_out() -> None:
    a = np.array([[1.0, np.nan, np.inf, np.inf, 2.0, 3.0]])
    b = np.array([[1.0, np.nan, np.inf, -np.inf, np.nan, 3.0]])
    found = compare(a, b)
    assert (found.non_finite_a, found.non_finite_b, found.non_finite_differ, found.values) == (3, 4, 2, 2)
    assert found.relative_distance == 0
    assert MSIT_MARKS.missed(found) == ("not finite",)
    assert MSIT_MARKS.severity(found) == math.inf


def test_the_same_nan_on_both_sides_does_not_fall_out() -> None:
    tensor = np.array([[1.0, np.nan]])
    assert MSIT_MARKS.severity(compare(tensor, tensor)) < 1


def test_nothing_but_nan_is_told() -> None:
    nan = np.full((2, 2), np.nan)
    found = compare(nan, np.ones((2, 2)))
    assert math.isnan(found.cosine)
    assert found.non_finite_differ == 4


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InferenceError, match="shape 2x3 in A and 2x4 in B"):
        compare(np.zeros((2, 3)), np.zeros((2, 4)))


def test_the_marks_are_msits_and_severity_is_in_their_units(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert Marks(cosine=0.99, relative_distance=0.05, kl_divergence=0.005, rmse=1, mean_relative_error=1) == MSIT_MARKS
    a, _ = pair
    found = compare(a, a * np.float32(1.1))  # the same direction and the same distribution, a tenth too long
    assert MSIT_MARKS.missed(found) == ("relative_distance",)
    assert MSIT_MARKS.severity(found) == pytest.approx(2, rel=1e-4)
