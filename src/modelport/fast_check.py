"""What fast preprocessing, or decoding on a GPU, changes: a sample of a run held against the exact path, outside its time."""

from __future__ import annotations

import logging

import numpy as np

from .data.decode import Decoder
from .data.predictions import top_classes
from .data.source import Sample, Source
from .engines.session import Session
from .errors import DataError
from .results import FastCheck

MOST = 64  # images; spread evenly over the source
_log = logging.getLogger("modelport")


class FastSample:
    """The images to hold against the exact path, and what the run decided of them."""

    def __init__(self, source: Source, flags: str = "--preprocess fast") -> None:
        """`flags` are those that make a run's pixels differ, for the user."""
        images = [row for row, sample in enumerate(source) if not sample.prepared]
        if raw := len(source) - len(images):
            _log.warning(
                "%s: %d of %d inputs are prepared already: %s has no effect on them",
                source.where, raw, len(source), flags,
            )  # fmt: skip
        places = np.linspace(0, len(images) - 1, min(len(images), MOST)).round().astype(int)
        self._rows = {images[place] for place in places}
        self._decided: list[tuple[Sample, int]] = []

    def take(self, row: int, image: Sample, top: int) -> None:
        """Keep the run's decision, the first class, if its image is of the sample; those that failed are left out."""
        if row in self._rows:
            self._decided.append((image, top))

    def compare(self, session: Session, fast: Decoder) -> FastCheck | None:
        """Prepare the sample both ways and infer it the exact way, by the run's own session and with its own decoder.

        Returns:
            None where no image is left to compare.

        Raises:
            DataError: an image has gone since the run.
        """
        exact = Decoder(fast.preprocess)
        buffer = np.zeros(session.input.shape, dtype=session.input.dtype)
        largest = differing = values = changed = 0
        for start in range(0, len(self._decided), len(buffer)):
            group = self._decided[start : start + len(buffer)]
            for row, (sample, _) in enumerate(group):
                theirs, ours = _both(sample, exact, fast)
                distance = np.abs(theirs.astype(np.int16) - ours)
                largest = max(largest, int(distance.max()))
                differing, values = differing + int(np.count_nonzero(distance)), values + distance.size
                exact.place(theirs, buffer[row])
            scores = session.infer(buffer)[: len(group)]
            decided = np.where(np.isfinite(scores).all(axis=1), top_classes(scores, 1)[:, 0], -1)
            changed += int((decided != [top for _, top in group]).sum())
        if not values:
            return None
        share = differing / values
        return FastCheck(images=len(self._decided), largest_difference=largest, differing_share=share, changed=changed)


def _both(sample: Sample, exact: Decoder, fast: Decoder) -> tuple[np.ndarray, np.ndarray]:
    try:
        data = sample.read()
        return exact.pixels(data), fast.pixels(data)
    except DataError as error:
        raise DataError(f"{sample.origin}: could be read in the run and not afterwards: it {error}") from error
