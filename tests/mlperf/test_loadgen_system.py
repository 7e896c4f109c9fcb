"""The system under test without LoadGen: every sample is answered once, with its own image's answer, whatever batches form."""

from __future__ import annotations

import ctypes
from threading import Event, Lock

import models
import numpy as np
import pytest

from modelport.data.decode import Decoder
from modelport.data.source import open_source
from modelport.engines import open_model
from modelport.engines.session import SessionOptions
from modelport.errors import DataError, InferenceError
from modelport.mlperf.answers import ANSWER
from modelport.mlperf.library import SampleLibrary, identity
from modelport.mlperf.system import SystemUnderTest
from modelport.offline import TensorSpec


class Caller:
    """Stands where LoadGen stands: keeps what is completed, by id, and waits for as many as were asked."""

    def __init__(self, expected: int) -> None:
        self.answers: dict[int, np.ndarray] = {}
        self.twice: list[int] = []
        self.failures: list[BaseException] = []
        self.over, self._lock, self._expected = Event(), Lock(), expected

    def complete(self, ids: list[int], address: int, size: int) -> None:
        with self._lock:
            for place, one in enumerate(ids):
                data = ctypes.string_at(address + place * size, size)  # as LoadGen reads it, from memory
                self.twice += [one] if one in self.answers else []
                self.answers[one] = np.frombuffer(data, ANSWER)[0]
            if len(self.answers) == self._expected:
                self.over.set()

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)
        self.over.set()


@pytest.fixture
def library(compiled, pictures):
    loaded = SampleLibrary(open_source(pictures), models.PREPROCESS, compiled("null").manifest.input, lambda *_: None)
    loaded.load(list(range(20)))
    return loaded


@pytest.mark.parametrize(("streams", "batch"), [(1, 1), (1, 3), (3, 3)])
def test_each_sample_is_answered_once_with_its_own_answer(compiled, library, streams, batch):
    caller = Caller(100)
    with open_model(compiled("null", batch), SessionOptions(streams=streams)) as session:
        system = SystemUnderTest(session, library, caller.complete, caller.failed)
        with system.working():
            for start in range(0, 100, 25):  # four queries; images come again, in another order
                ids = list(range(start, start + 25))
                system.issue(ids, [(7 * one) % 20 for one in ids])
            assert caller.over.wait(30)

    assert (caller.twice, caller.failures) == ([], [])
    assert (system.asked, system.answered) == (100, 100)
    for one, answer in caller.answers.items():
        scores = models.null_scores(library[(7 * one) % 20][None])[0]
        assert answer["top"].tolist() == np.argsort(-scores, kind="stable").tolist()
        np.testing.assert_allclose(answer["scores"], -np.sort(-scores), rtol=1e-4)


def test_nothing_is_left_running_where_nothing_was_asked(compiled, library):
    with open_model(compiled("null", 3), SessionOptions(streams=2)) as session:
        with SystemUnderTest(session, library, lambda *_: None, lambda _: None).working():
            pass


def test_a_worker_that_fails_says_so(compiled, library, monkeypatch):
    monkeypatch.setenv("MODELPORT_NULL_FAULT", "infer-raise:2")
    caller = Caller(9)
    with open_model(compiled("null", 3)) as session:
        system = SystemUnderTest(session, library, caller.complete, caller.failed)
        with system.working():
            system.issue(list(range(9)), list(range(9)))
            assert caller.over.wait(30)
    (failure,) = caller.failures
    assert isinstance(failure, InferenceError)
    assert len(caller.answers) == 3  # the batch before


def test_the_library_holds_what_was_loaded_and_nothing_else(compiled, pictures):
    told = []
    source = open_source(pictures)
    library = SampleLibrary(
        source, models.PREPROCESS, compiled("null").manifest.input, lambda *so_far: told.append(so_far)
    )
    library.load([3, 5, 3])
    assert library[3].shape == models.SIZE
    assert not np.array_equal(library[3], library[5])
    assert told == [(1, 2), (2, 2)]  # an image that is asked for twice is loaded once
    with pytest.raises(KeyError):
        library[0]
    library.unload([3, 5])
    with pytest.raises(KeyError):
        library[3]


def test_an_image_that_cannot_be_read(compiled, pictures, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    library = SampleLibrary(open_source(tmp_path), models.PREPROCESS, compiled("null").manifest.input, lambda *_: None)
    with pytest.raises(DataError, match=r"a\.png: is not an image .*; LoadGen knows no image that fails: mend it, or"):
        library.load([0])


def test_images_are_the_same_whatever_their_labels(pictures):
    source = open_source(pictures)
    assert identity(source) == identity(source.labelled({"0001": 3}))
    assert identity(source) != identity(source.limited(3))


def test_a_model_that_takes_pixels_gets_pixels(pictures):
    _, height, width = models.SIZE
    image = TensorSpec(name="image", dtype="uint8", shape=(4, height, width, 3), layout="NHWC")
    source = open_source(pictures)
    library = SampleLibrary(source, models.PREPROCESS, image, lambda *_: None)
    library.load([2])
    assert library[2].dtype == np.uint8
    pixels = Decoder(models.PREPROCESS).pixels(source.samples[2].read())
    np.testing.assert_array_equal(library[2], pixels)
