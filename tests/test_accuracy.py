"""Accuracy: what is in the denominator, published intervals and p-values, parity, and the gate's edge."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from modelport.accuracy import (
    INFER_FILE,
    PREDICTIONS_FILE,
    compare_decisions,
    count_topn,
    evaluate,
    guide_result,
    judge,
    measure_parity,
)
from modelport.data.predictions import TOP, Prediction, Predictions, as_table, schema, top_classes, writing
from modelport.data.source import Sample
from modelport.errors import DataError, FormatError, OutputError
from modelport.host import environment
from modelport.results import Accuracy, EndToEnd, InferResult, Interface, Parity, ReferenceAccuracy
from modelport.spec import ModelSpec, Precision, Preprocess

GUIDE = {"images": 50000, "classes": 1000, "hits": (40030, 44590, 46165, 46990, 47470)}


def predicted(tops: dict[str, list[int] | None]) -> Predictions:
    """Predictions by image name; None for an image that failed."""
    top = np.full((len(tops), TOP), -1, dtype=np.int32)
    for row, classes in enumerate(tops.values()):
        if classes is not None:
            top[row, : len(classes)] = classes
    errors = [None if classes is not None else "is damaged" for classes in tops.values()]
    return Predictions(list(tops), [None] * len(tops), top, errors, None)


def accuracy(images: int, *hits: int) -> Accuracy:
    return Accuracy(images=images, classes=1000, hits=hits)


class TestTopN:
    def test_hits_are_counted_at_their_rank_and_beyond(self):
        found = count_topn(
            predicted(
                {
                    "a.png": [3, 1, 2, 4, 5],  # first
                    "b.png": [1, 3, 2, 4, 5],  # second
                    "c.png": [1, 2, 4, 5, 3],  # fifth
                    "d.png": [1, 2, 4, 5, 6],  # not at all
                }
            ),
            {"a": 3, "b": 3, "c": 3, "d": 3},
            classes=10,
        )
        assert found.hits == (1, 2, 2, 2, 3)
        assert found.topn == (0.25, 0.5, 0.5, 0.5, 0.75)
        assert (found.images, found.classes) == (4, 10)
        assert (found.missing, found.extra, found.failed, found.not_requested) == (0, 0, 0, 0)

    def test_names_are_matched_up_to_the_first_dot_and_order_does_not_matter(self):
        found = count_topn(predicted({"b.x.bin": [1], "a.JPEG": [0]}), {"a": 0, "b": 1}, classes=2)
        assert found.hits[0] == 2

    def test_missing_images_are_wrong_and_named(self):
        labels = {"a": 1} | {f"m{n}": 1 for n in range(7)}
        found = count_topn(predicted({"a.png": [1]}), labels, classes=5)
        assert (found.images, found.missing, found.hits[4]) == (8, 7, 1)
        assert found.first_missing == ("m0", "m1", "m2", "m3", "m4")
        assert found.topn[0] == 1 / 8

    def test_extra_images_are_not_counted_but_named(self):
        tops = {"a.png": [1]} | {f"x{n}.png": [1] for n in range(6)}
        found = count_topn(predicted(tops), {"a": 1}, classes=5)
        assert (found.images, found.extra, found.hits[0]) == (1, 6, 1)
        assert found.first_extra == ("x0.png", "x1.png", "x2.png", "x3.png", "x4.png")

    def test_failed_images_are_wrong(self):
        found = count_topn(predicted({"a.png": [1], "b.png": None, "x.png": None}), {"a": 1, "b": 1}, classes=5)
        assert (found.images, found.failed, found.extra, found.hits) == (2, 1, 1, (1, 1, 1, 1, 1))

    def test_a_limit_leaves_images_out_of_the_denominator_and_says_how_many(self):
        found = count_topn(
            predicted({"a.png": [1], "b.png": None}), {"a": 1, "b": 1, "c": 1, "d": 1}, classes=5, limited=True
        )
        assert (found.images, found.missing, found.not_requested, found.failed) == (2, 0, 2, 1)
        assert found.first_missing == ()
        assert found.topn[0] == 0.5

    def test_fewer_than_five_classes(self):
        found = count_topn(predicted({"a.png": [2, 0, 1], "b.png": [0, 1, 2]}), {"a": 2, "b": 2}, classes=3)
        assert found.hits == (1, 1, 2, 2, 2)
        assert json.loads(guide_result(found))["value"][-1] == {"key": "Top5 accuracy", "value": "100.0%"}

    def test_no_predicted_image_has_a_label(self):
        with pytest.raises(DataError, match=r"^none of the 2 predicted images has a label \(first image: a\)$"):
            count_topn(predicted({"a.png": [1], "b.png": [1]}), {"c": 1}, classes=5)

    def test_nothing_predicted(self):
        with pytest.raises(DataError, match=r"^none of the 0 predicted images has a label \(first image: none\)$"):
            count_topn(predicted({}), {"c": 1}, classes=5)


class TestInterval:
    @pytest.mark.parametrize(
        ("hits", "images", "low", "high"),
        [  # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ],
    )
    def test_wilson_as_published(self, hits, images, low, high):
        (interval,) = accuracy(images, hits).interval95
        assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))

    def test_by_the_formula(self):
        z, n, p = 1.959963984540054, 50000, 0.8006
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        interval = Accuracy(**GUIDE).interval95[0]
        assert interval.low == pytest.approx((centre - half) / (1 + z * z / n))
        assert interval.high == pytest.approx((centre + half) / (1 + z * z / n))

    def test_all_right_stays_below_one(self):
        (interval,) = accuracy(20, 20).interval95
        assert (interval.low, interval.high) == (pytest.approx(0.8389, abs=5e-5), pytest.approx(1))


class TestGuideResult:
    def test_the_guides_own_figures(self):
        assert guide_result(Accuracy(**GUIDE)) == (
            '{"title": "Overall statistical evaluation", "value": ['
            '{"key": "Number of images", "value": "50000"}, {"key": "Number of classes", "value": "1000"}, '
            '{"key": "Top1 accuracy", "value": "80.06%"}, {"key": "Top2 accuracy", "value": "89.18%"}, '
            '{"key": "Top3 accuracy", "value": "92.33%"}, {"key": "Top4 accuracy", "value": "93.98%"}, '
            '{"key": "Top5 accuracy", "value": "94.94%"}]}'
        )

    @pytest.mark.parametrize(
        ("hits", "images", "shown"),
        [(1, 3, "33.33%"), (2, 3, "66.67%"), (0, 3, "0.0%"), (3, 3, "100.0%"), (1, 2, "50.0%")],
    )
    def test_percentages_are_python_rounded_to_two_places(self, hits, images, shown):
        assert json.loads(guide_result(accuracy(images, hits)))["value"][2]["value"] == shown


class TestEvaluate:
    @pytest.fixture
    def directory(self, tmp_path) -> Path:
        """What `infer` leaves: three images, their first predictions are 0, 1 and 2; the fourth failed."""
        return self.make(tmp_path / "run")

    @staticmethod
    def make(directory: Path, limit: int | None = None) -> Path:
        directory.mkdir()
        nothing = np.empty(0, dtype=np.int32)
        rows = []
        for number in range(3):
            top = top_classes(np.eye(6, dtype=np.float32)[number][None])[0]
            rows.append(Prediction(Sample(f"{number}.png", Path(f"{number}.png")), top, np.zeros(5, np.float32), None))
        rows.append(Prediction(Sample("3.png", Path("3.png")), nothing, nothing, None, "is damaged"))
        with writing(directory / PREDICTIONS_FILE, schema(6, all_scores=False)) as writer:
            writer.write(as_table(rows, schema(6, all_scores=False)))
        InferResult(
            engine="null",
            engine_version="0",
            precision=Precision.F32,
            executed_precision=Precision.F32,
            batch_size=1,
            model=ModelSpec(arch="tiny", num_classes=6, preprocess=Preprocess(input_size=(3, 4, 4))),
            images=4,
            failures=1,
            limit=limit,
            source="images",
            e2e=EndToEnd(throughput=1.0, wall_s=4.0),
            interface=Interface(throughput=1.0, busy_s=1.0),
            stages=(),
            bad_images=(),
            environment=environment(),
        ).write(directory / INFER_FILE)
        return directory

    @pytest.fixture
    def labels(self, tmp_path) -> Path:
        path = tmp_path / "val_label.txt"
        path.write_text("0.png 0\n1.png 1\n2.png 0\n3.png 3\n4.png 4\n")
        return path

    def test_counts_what_infer_left(self, directory, labels):
        found = evaluate(directory, labels)
        assert (found.images, found.classes, found.failed, found.missing) == (5, 6, 1, 1)
        assert found.hits == (2, 3, 3, 3, 3)
        assert evaluate(str(directory), str(labels)) == found

    def test_a_limited_run_is_recognised(self, tmp_path, labels):
        found = evaluate(self.make(tmp_path / "limited", limit=4), labels)
        assert (found.images, found.missing, found.not_requested) == (4, 0, 1)

    def test_writes_the_guides_file_and_the_full_figures(self, directory, labels, tmp_path):
        found = evaluate(directory, labels, tmp_path / "out" / "result.json")
        assert (tmp_path / "out" / "result.json").read_text() == guide_result(found) + "\n"
        assert Accuracy.read(tmp_path / "out" / "result.accuracy.json") == found
        full = json.loads((tmp_path / "out" / "result.accuracy.json").read_text())
        assert full["topn"][0] == 0.4
        assert full["interval95"][0]["low"] < 0.4 < full["interval95"][0]["high"]

    @pytest.mark.parametrize("existing", ["result.json", "result.accuracy.json"])
    def test_existing_output_is_refused_unless_forced(self, directory, labels, tmp_path, existing):
        (tmp_path / existing).write_text("mine")
        with pytest.raises(OutputError, match=rf"{existing} exists already: .*--force"):
            evaluate(directory, labels, tmp_path / "result.json")
        assert (tmp_path / existing).read_text() == "mine"
        evaluate(directory, labels, tmp_path / "result.json", force=True)
        assert (tmp_path / existing).read_text() != "mine"

    def test_label_out_of_range(self, directory, labels):
        labels.write_text("0.png 6\n")
        with pytest.raises(DataError, match=r"val_label\.txt: '0' has label 6, the model has classes 0 to 5"):
            evaluate(directory, labels)

    def test_not_a_directory_of_infer(self, tmp_path, labels):
        with pytest.raises(FormatError, match=r"infer\.json: cannot be read: No such file or directory"):
            evaluate(tmp_path, labels)

    def test_predictions_missing(self, directory, labels):
        (directory / PREDICTIONS_FILE).unlink()
        with pytest.raises(FormatError, match=r"predictions\.parquet: no such file; `modelport infer` writes it"):
            evaluate(directory, labels)


class TestParity:
    REFERENCE = np.float32([[1, -8, 2], [4, 3, 1], [0, 0, 2]])

    def parity(self, change: dict[tuple[int, int], float], tolerance: float | None = None) -> Parity:
        scores = self.REFERENCE.copy()
        for place, value in change.items():
            scores[place] = value
        return measure_parity(self.REFERENCE, scores, against="PyTorch", tolerance=tolerance)

    def test_equal_scores(self):
        found = self.parity({}, tolerance=0.0)
        assert (found.max_abs_error, found.mean_abs_error, found.relative_error) == (0, 0, 0)
        assert (found.top1_agreement, found.samples, found.against) == (1, 3, "PyTorch")
        assert found.cosine == pytest.approx(1)
        assert found.passed

    def test_figures_by_hand(self):
        found = self.parity({(1, 1): 5.0, (2, 2): 1.0})
        assert found.max_abs_error == 2
        assert found.mean_abs_error == pytest.approx(3 / 9)
        assert found.scale == 8
        assert found.relative_error == 0.25
        assert found.top1_agreement == pytest.approx(2 / 3)
        assert found.cosine == pytest.approx((16 + 15 + 1) / math.sqrt(26 * 42))

    def test_the_tolerance_itself_passes(self):
        assert self.parity({(2, 2): 1.0}, tolerance=0.125).passed
        assert not self.parity({(2, 2): 1.0}, tolerance=0.1249).passed

    def test_without_tolerance_it_is_only_reported(self):
        assert self.parity({(2, 2): -100.0}).passed

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_scores_that_are_not_finite_never_pass(self, value):
        found = self.parity({(2, 2): value}, tolerance=1e9)
        assert not found.passed
        assert not found.cosine > 0.99

    def test_an_infinity_on_both_sides_never_passes(self):
        reference = np.float32([[1, math.inf]])
        assert not measure_parity(reference, reference.copy(), against="PyTorch", tolerance=1e9).passed

    def test_nan_survives_its_file(self, tmp_path):
        self.parity({(2, 2): math.nan}, tolerance=0.1).write(tmp_path / "parity.json")
        found = Parity.read(tmp_path / "parity.json")
        assert math.isnan(found.max_abs_error)
        assert not found.passed

    def test_a_dead_model_is_not_similar(self):
        """All scores zero: no direction at all, so nothing of the reference's was kept."""
        found = measure_parity(self.REFERENCE, np.zeros_like(self.REFERENCE), against="PyTorch")
        assert found.cosine <= 0

    def test_zeros_on_both_sides_are_equal(self):
        zeros = np.zeros((2, 3), dtype=np.float32)
        found = measure_parity(zeros, zeros, against="PyTorch", tolerance=0.0)
        assert (found.cosine, found.relative_error, found.passed) == (1, 0, True)

    def test_opposite_scores(self):
        assert measure_parity(self.REFERENCE, -self.REFERENCE, against="PyTorch").cosine == pytest.approx(-1)

    def test_shapes_that_differ(self):
        with pytest.raises(FormatError, match=r"scores have shape \(3, 2\), those of PyTorch have \(3, 3\)"):
            measure_parity(self.REFERENCE, self.REFERENCE[:, :2], against="PyTorch")


class TestPaired:
    @staticmethod
    def split(lost: int, gained: int, *, both: int = 0, neither: int = 0):
        """Class 1 is right everywhere; 0 is wrong, and so is 2."""
        was = [1] * lost + [0] * gained + [1] * both + [0] * neither
        now = [0] * lost + [1] * gained + [1] * both + [2] * neither
        names = [f"{n}.png" for n in range(len(was))]
        labels = {str(n): 1 for n in range(len(was))}
        reference = predicted({name: [first] for name, first in zip(names, was, strict=True)})
        ours = predicted({name: [first] for name, first in zip(names, now, strict=True)})
        return compare_decisions(reference, ours, labels, against="PyTorch")

    @pytest.mark.parametrize(
        ("lost", "gained", "p_value"),
        [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (5, 1, 2 * (1 + 6) / 64),
            (1, 5, 2 * (1 + 6) / 64),
            (8, 0, 2 / 256),
            (6, 2, 2 * (1 + 8 + 28) / 256),
            (3, 3, 1.0),
            (10, 3, 2 * (1 + 13 + 78 + 286) / 8192),
        ],
    )
    def test_exact_mcnemar_by_hand(self, lost, gained, p_value):
        found = self.split(lost, gained, both=4, neither=3)
        assert (found.lost, found.gained) == (lost, gained)
        assert found.p_value == pytest.approx(p_value)
        assert found.changed == lost + gained + 3
        assert found.images == lost + gained + 7
        assert found.against == "PyTorch"

    def test_unlabelled_images_are_neither_lost_nor_gained(self):
        found = compare_decisions(
            predicted({"a.png": [1], "b.png": None}), predicted({"a.png": [0], "b.png": None}), {}, against="PyTorch"
        )
        assert (found.lost, found.gained, found.changed, found.p_value) == (0, 0, 1, 1.0)
        failed, classified = predicted({"a.png": None}), predicted({"a.png": [0]})
        for reference, ours in ((failed, classified), (classified, failed)):
            found = compare_decisions(reference, ours, {}, against="PyTorch")
            assert (found.lost, found.gained) == (0, 0)

    def test_an_image_that_fails_only_here_is_lost(self):
        found = compare_decisions(predicted({"a.png": [1]}), predicted({"a.png": None}), {"a": 1}, against="PyTorch")
        assert (found.lost, found.changed) == (1, 1)

    @pytest.mark.parametrize("names", [["b.png", "a.png"], ["a.png"], ["a.png", "c.png"]])
    def test_other_images(self, names):
        reference = predicted({"a.png": [1], "b.png": [1]})
        with pytest.raises(DataError, match=r"^the predictions and those of PyTorch are not of the same images$"):
            compare_decisions(reference, predicted({name: [1] for name in names}), {"a": 1}, against="PyTorch")


class TestGate:
    RECORDED = ReferenceAccuracy(source="timm", top1=80.05, top5=94.94)

    def test_a_drop_of_the_tolerance_itself_passes_and_one_image_more_fails(self):
        top5 = (18988,) * 4
        at = judge(accuracy(20000, 15810, *top5), tolerance_points=1.0, recorded=self.RECORDED)
        below = judge(accuracy(20000, 15809, *top5), tolerance_points=1.0, recorded=self.RECORDED)
        assert (at.passed, below.passed) == (True, False)
        assert [check.passed for check in below.checks] == [False, True]
        assert at.checks[0].drop == pytest.approx(1.0)
        assert at.tolerance_points == 1.0

    def test_the_edge_is_not_lost_to_rounding(self):
        """58.5 - 57.5 is more than 1 in floating point where 57.5 comes from 207 / 360."""
        assert 58.5 - 207 / 360 * 100 > 1.0
        recorded = ReferenceAccuracy(source="timm", top1=58.5)
        assert judge(accuracy(360, 207), tolerance_points=1.0, recorded=recorded).passed
        assert not judge(accuracy(360, 206), tolerance_points=1.0, recorded=recorded).passed

    def test_top5_is_held_to_the_tolerance_too(self):
        gate = judge(accuracy(20000, 16010, 0, 0, 0, 18787), tolerance_points=1.0, recorded=self.RECORDED)
        assert [(check.name, check.passed) for check in gate.checks] == [
            ("top1 against timm", True),
            ("top5 against timm", False),
        ]
        assert not gate.passed

    def test_a_gain_passes(self):
        gate = judge(accuracy(100, 99, 99, 99, 99, 100), tolerance_points=0.0, recorded=self.RECORDED)
        assert gate.passed
        assert gate.checks[0].drop == pytest.approx(80.05 - 99)

    def test_zero_tolerance_accepts_the_same_count(self):
        ours = accuracy(360, 341, 350, 355, 357, 359)
        assert judge(ours, tolerance_points=0.0, source=ours).passed
        assert not judge(accuracy(360, 340, 350, 355, 357, 359), tolerance_points=0.0, source=ours).passed

    def test_top1_alone_where_no_top5_is_recorded(self):
        recorded = ReferenceAccuracy(source="paper", top1=77.9)
        gate = judge(accuracy(10, 8, 8, 8, 8, 8), tolerance_points=1.0, recorded=recorded)
        assert [(check.name, check.unit, check.reference, check.measured, check.limit) for check in gate.checks] == [
            ("top1 against paper", "points", 77.9, 80.0, 1.0)
        ]

    def test_recorded_and_source_are_both_held(self):
        gate = judge(
            accuracy(100, 80, 0, 0, 0, 95),
            tolerance_points=1.0,
            recorded=self.RECORDED,
            source=accuracy(100, 82, 0, 0, 0, 95),
        )
        assert [check.passed for check in gate.checks] == [True, True, False, True]
        assert all("same images" in check.name for check in gate.checks[2:])

    @pytest.mark.parametrize(
        ("error", "tolerance", "passed"), [(0.5, 0.125, True), (0.51, 0.125, False), (math.nan, 0.125, False)]
    )
    def test_parity_with_a_tolerance_is_a_check(self, error, tolerance, passed):
        reference = np.float64([[4.0, 0.0]])
        parity = measure_parity(reference, reference - [[0, error]], against="the ONNX file", tolerance=tolerance)
        gate = judge(None, tolerance_points=1.0, parity=parity)
        (check,) = gate.checks
        assert (check.name, check.unit, check.limit) == ("largest score error against the ONNX file", "relative", 0.125)
        assert (check.passed, gate.passed) == (passed, passed)

    def test_parity_without_tolerance_is_no_check(self):
        parity = measure_parity(np.ones((1, 2)), np.zeros((1, 2)), against="PyTorch")
        assert judge(None, tolerance_points=1.0, parity=parity).checks == ()
