"""Which images the reports show, and their pictures: what the network sees, drawn anew; what has gone is left out."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import models
import numpy as np
import pytest
from PIL import Image
from test_results import make_run, make_target_result

from modelport.data.decode import Decoder
from modelport.data.predictions import Predictions
from modelport.data.source import Sample, Source, open_source
from modelport.errors import DataError
from modelport.gallery import SHOWN, choose, thumbnail, thumbnails
from modelport.results import Decision
from modelport.spec import ColorOrder

DECODER = Decoder(models.SPEC.preprocess)


def predictions(keys: list[str], scores: np.ndarray, *, errors: list[str | None] | None = None) -> Predictions:
    top = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return Predictions(keys, [None] * len(keys), top, errors or [None] * len(keys), scores.astype(np.float32))


def one_hot(*decided: int, sure: float = 3.0) -> np.ndarray:
    return np.eye(6)[list(decided)] * sure


def test_changed_decisions_and_mistakes_are_told_apart():
    keys = ["a.png", "b.png", "c.png", "d.png"]
    here, there = predictions(keys, one_hot(0, 1, 2, 5)), predictions(keys, one_hot(0, 4, 2, 3))

    changed, mistakes = choose(here, {"a": 0, "b": 1, "c": 3}, there)

    assert [(each.key, each.label, each.decided, each.before) for each in changed] == [
        ("b.png", 1, 1, 4),
        ("d.png", None, 5, 3),
    ]
    assert [(each.key, each.label, each.decided, each.before) for each in mistakes] == [("c.png", 3, 2, 2)]


def test_the_surest_come_first_and_no_more_than_one_looks_at():
    count = SHOWN + 5
    keys = [f"{number:02}.png" for number in range(count)]
    here = predictions(keys, one_hot(*[1] * count) * np.arange(count)[:, None] / 3)

    _, mistakes = choose(here, dict.fromkeys((key[:2] for key in keys), 0), None)

    assert [each.key for each in mistakes] == keys[: -SHOWN - 1 : -1]
    assert all(each.before is None for each in mistakes)


def test_confidence_is_the_share_of_the_softmax_and_a_softmax_is_not_taken_twice():
    scores = np.array([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0, -1.0, 0.0]])
    _, mistakes = choose(predictions(["a", "b"], scores), {"a": 5, "b": 5}, None)
    found = {each.key: each.confidence for each in mistakes}
    assert found == {
        key: pytest.approx(np.exp(row).max() / np.exp(row).sum()) for key, row in zip("ab", scores, strict=True)
    }

    shares = np.array([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    _, mistakes = choose(predictions(["a", "b"], shares), {"a": 5, "b": 5}, None)
    assert {each.key: each.confidence for each in mistakes} == {"a": pytest.approx(0.5), "b": 1.0}


def test_what_failed_on_either_side_is_not_shown():
    here = predictions(["a", "b"], one_hot(0, 1), errors=["is damaged", None])
    there = predictions(["a", "b"], one_hot(3, 3), errors=[None, "is damaged"])

    assert choose(here, {"a": 5, "b": 1}, there) == ((), ())


def test_without_scores_there_is_no_confidence():
    here = predictions(["a"], one_hot(2))
    bare = Predictions(here.keys, here.labels, here.top, here.errors, None)

    _, (mistake,) = choose(bare, {"a": 1}, None)
    assert (mistake.decided, mistake.confidence) == (2, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def shown(*keys: str):
    decisions = tuple(Decision(key=key, label=0, decided=1) for key in keys)
    return make_run(make_target_result(True).model_copy(update={"mistakes": decisions}))


def test_pictures_are_made_of_what_is_shown_only_and_of_what_the_network_sees(folder):
    found = thumbnails(open_source(folder), shown("a.png", "c.png"))

    assert sorted(found) == ["a.png", "c.png"]
    picture = Image.open(io.BytesIO(found["a.png"]))
    assert (picture.format, picture.size) == ("JPEG", models.SPEC.preprocess.input_size[:0:-1])
    seen = DECODER.pixels((folder / "a.png").read_bytes()).astype(int)
    assert np.abs(np.asarray(picture).astype(int) - seen).mean() < 25, (
        "it is noise, which JPEG keeps badly, but that image"
    )


def test_an_image_that_has_gone_or_broken_has_none_and_it_is_said(folder, caplog):
    source = open_source(folder)
    (folder / "a.png").unlink()
    (folder / "b.png").write_bytes(b"<script>alert(1)</script>")

    with caplog.at_level(logging.WARNING, "modelport"):
        found = thumbnails(source, shown("a.png", "b.png", "c.png"))

    assert list(found) == ["c.png"]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["a.png", "b.png"]
    assert all("the report has no picture of it" in record.getMessage() for record in caplog.records)


def test_nothing_of_the_files_own_bytes_is_passed_on(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (900, 700), (10, 200, 10)).save(
        path, "JPEG", comment=b"<script>alert(1)</script>", exif=b"Exif\0\0secret"
    )

    made = thumbnail(Sample("a.jpg", path), DECODER)
    assert b"script" not in made
    assert b"secret" not in made
    assert len(made) < 3000


@pytest.mark.parametrize("order", ColorOrder)
def test_the_guides_preprocessed_input_is_shown_as_an_image(folder, order):
    preprocess = models.SPEC.preprocess.model_copy(update={"color_order": order})
    decoder = Decoder(preprocess)
    path = folder / "a.png"
    Image.new("RGB", (64, 64), (250, 120, 10)).save(path)
    values = np.empty(preprocess.input_size, np.float32)
    decoder(Sample("a.png", path), path.read_bytes(), values)
    (folder / "a.bin").write_bytes(values.tobytes())

    picture = Image.open(io.BytesIO(thumbnail(Sample("a.bin", folder / "a.bin"), decoder)))
    assert np.abs(np.asarray(picture).reshape(-1, 3).mean(axis=0) - (250, 120, 10)).max() < 6


def test_raw_data_of_another_size_is_an_error(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\0" * 12)

    with pytest.raises(DataError, match="holds 12 bytes"):
        thumbnail(Sample("a.bin", tmp_path / "a.bin"), DECODER)


def test_a_source_without_the_image_is_no_error():
    assert thumbnails(Source("nowhere", (Sample("x.png", Path("x.png")),)), shown("a.png")) == {}
