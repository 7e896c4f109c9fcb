"""Predictions on disk: round trip, ties, and files that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelport.data.predictions import TOP, Prediction, Predictions, as_table, schema, top_classes, writing
from modelport.data.source import Sample
from modelport.errors import FormatError

NOTHING = np.empty(0, dtype=np.int32)
COLUMNS = schema(8, all_scores=False)


def good(number: int, scores: np.ndarray, *, label: int | None = None, keep: bool = True) -> Prediction:
    top = top_classes(scores[None])[0]
    return Prediction(Sample(f"{number}.png", Path(f"{number}.png"), label), top, scores[top], scores if keep else None)


def bad(number: int, reason: str = "is damaged", *, label: int | None = None) -> Prediction:
    return Prediction(Sample(f"{number}.png", Path(f"{number}.png"), label), NOTHING, NOTHING, None, reason)


def write(path: Path, predictions: list[Prediction], *, classes: int, all_scores: bool) -> Predictions:
    columns = schema(classes, all_scores=all_scores)
    with writing(path, columns) as writer:
        writer.write(as_table(predictions, columns))
    return Predictions.read(path)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "predictions.parquet"


class TestTopClasses:
    def test_highest_first(self):
        assert top_classes(np.array([[0.1, 0.9, 0.3, 0.5, 0.2, 0.4, 0.0]])).tolist() == [[1, 3, 5, 2, 4]]

    def test_ties_go_to_the_lower_index(self):
        scores = np.array([[1, 2, 2, 0, 2, 1, 1], [0, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
        assert top_classes(scores).tolist() == [[1, 2, 4, 0, 5], [0, 1, 2, 3, 4]]

    def test_ties_among_many_classes(self):
        """An unstable sort shows itself only on longer rows."""
        scores = np.zeros((1, 1000), dtype=np.float32)
        scores[0, [900, 17, 400, 3, 999, 50]] = 1
        assert top_classes(scores).tolist() == [[3, 17, 50, 400, 900]]

    def test_negative_scores(self):
        assert top_classes(np.array([[-3.0, -1.0, -2.0]])).tolist() == [[1, 2, 0]]

    @pytest.mark.parametrize("classes", [1, 2, 4])
    def test_fewer_classes_than_five(self, classes):
        assert top_classes(np.arange(classes, dtype=np.float32)[None]).tolist() == [list(range(classes))[::-1]]

    def test_no_rows(self):
        assert top_classes(np.empty((0, 7), dtype=np.float32)).shape == (0, 5)


class TestRoundTrip:
    def test_order_labels_failures_and_scores(self, path):
        scores = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
        given = [good(2, scores[0], label=4), bad(0, "is damaged: ü", label=1), good(1, scores[1]), good(3, scores[2])]
        found = write(path, given, classes=8, all_scores=True)
        assert found.keys == ["2.png", "0.png", "1.png", "3.png"]
        assert found.labels == [4, 1, None, None]
        assert found.errors == [None, "is damaged: ü", None, None]
        assert found.top.tolist() == [
            given[0].top.tolist(),
            [-1] * TOP,
            given[2].top.tolist(),
            given[3].top.tolist(),
        ]
        assert found.scores.dtype == np.float32
        np.testing.assert_array_equal(found.scores[[0, 2, 3]], scores)
        assert np.isnan(found.scores[1]).all()

    def test_scores_are_kept_only_where_asked(self, path):
        found = write(path, [good(0, np.arange(8, dtype=np.float32))], classes=8, all_scores=False)
        assert found.scores is None
        assert found.top.tolist() == [[7, 6, 5, 4, 3]]

    def test_fewer_classes_than_five_are_filled_up(self, path):
        found = write(path, [good(0, np.float32([1, 3, 2])), bad(1)], classes=3, all_scores=True)
        assert found.top.tolist() == [[1, 2, 0, -1, -1], [-1] * TOP]

    def test_every_image_failed(self, path):
        found = write(path, [bad(0), bad(1)], classes=8, all_scores=True)
        assert found.keys == ["0.png", "1.png"]
        assert found.top.tolist() == [[-1] * TOP] * 2
        assert found.scores.shape == (2, 8), "N x classes, as documented"
        assert np.isnan(found.scores).all()

    def test_no_image(self, path):
        found = write(path, [], classes=8, all_scores=False)
        assert found.keys == []
        assert found.top.shape == (0, TOP)

    def test_more_rows_than_one_row_group(self, path):
        count, random = 9001, np.random.default_rng(1)
        scores = random.normal(size=(count, 6)).astype(np.float32)
        failed = set(random.choice(count, 500, replace=False).tolist())
        given = [bad(i) if i in failed else good(i, scores[i]) for i in range(count)]
        found = write(path, given, classes=6, all_scores=True)
        assert found.keys == [f"{i}.png" for i in range(count)]
        assert {i for i, error in enumerate(found.errors) if error} == failed
        kept = [i for i in range(count) if i not in failed]
        np.testing.assert_array_equal(found.scores[kept], scores[kept])
        np.testing.assert_array_equal(found.top[kept], top_classes(scores[kept]))

    @pytest.mark.parametrize("size", [1, 700, 4096, 5000])
    def test_the_same_rows_make_the_same_bytes_however_they_come(self, path, size):
        scores = np.random.default_rng(1).normal(size=(9001, 6)).astype(np.float32)
        given, columns = [good(i, scores[i]) for i in range(len(scores))], schema(6, all_scores=True)
        write(path, given, classes=6, all_scores=True)
        other = path.with_name("other.parquet")
        with writing(other, columns) as writer:
            for start in range(0, len(given), size):
                writer.write(as_table(given[start : start + size], columns))
        assert other.read_bytes() == path.read_bytes()

    def test_top_scores_are_those_of_the_top_classes(self, path):
        write(path, [good(0, np.float32([0.5, 4, -1, 2, 3, 1]))], classes=6, all_scores=False)
        row = pq.read_table(path).to_pylist()[0]
        assert (row["top"], row["top_scores"]) == ([1, 4, 3, 5, 0], [4, 3, 2, 1, 0.5])

    def test_the_file_says_what_it_is(self, path):
        write(path, [bad(0)], classes=8, all_scores=False)
        metadata = pq.read_schema(path).metadata
        assert metadata[b"modelport"] == b"predictions 1"
        assert metadata[b"classes"] == b"8"


class TestNotPredictions:
    def test_missing(self, path):
        with pytest.raises(FormatError, match=r"predictions\.parquet: no such file; `modelport infer` writes it$"):
            Predictions.read(path)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PAR1" + bytes(100) + b"PAR1"])
    def test_not_parquet(self, path, content):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"^[^\n]*predictions\.parquet: is not a predictions file: [^\n]+$"):
            Predictions.read(path)

    def test_truncated(self, path):
        write(path, [good(0, np.arange(8, dtype=np.float32))], classes=8, all_scores=True)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(FormatError, match="is not a predictions file"):
            Predictions.read(path)

    def test_other_parquet(self, path):
        pq.write_table(pa.table({"city": ["Oslo"]}), path)
        with pytest.raises(FormatError, match=r"is not a predictions file: [^\n]+$"):
            Predictions.read(path)

    def test_directory(self, path):
        path.mkdir()
        with pytest.raises(FormatError, match="is not a predictions file"):
            Predictions.read(path)


def half_a_run(path: Path) -> None:
    with writing(path, COLUMNS) as writer:
        for number in range(5000):  # more than a row group, so something has been flushed
            writer.write(as_table([good(number, np.arange(8, dtype=np.float32), keep=False)], COLUMNS))
        raise RuntimeError("the run broke")


class TestWholeOrAbsent:
    def test_nothing_is_left_when_the_body_raises(self, path):
        with pytest.raises(RuntimeError, match="the run broke"):
            half_a_run(path)
        assert list(path.parent.iterdir()) == []

    def test_an_earlier_file_survives_when_the_body_raises(self, path):
        write(path, [bad(0)], classes=8, all_scores=False)
        before = path.read_bytes()
        with pytest.raises(RuntimeError, match="the run broke"):
            half_a_run(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_the_file_appears_only_at_the_end(self, path):
        with writing(path, COLUMNS) as writer:
            writer.write(as_table([bad(0)], COLUMNS))
            assert not path.exists()
        assert path.exists()
