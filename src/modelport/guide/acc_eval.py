"""The guide's accuracy step: a dump directory against `val_label.txt`, failing on what the original script hides."""

from __future__ import annotations

from pathlib import Path

from ..accuracy import evaluate_dump, guide_result
from ..errors import DataError
from ..files import write_text
from ..progress import Progress, silent
from ..results import Accuracy


def evaluate_guide(dump: Path | str, labels: Path | str, output: Path | str, progress: Progress = silent) -> Accuracy:
    """Count Top1…Top5 and write `result.json`, in one line and replacing an earlier one.

    Raises:
        DataError: images without a prediction (the original shrinks its denominator), predictions without a label (stale
            files, which the original counts), or scores that are not finite.
    """
    accuracy = evaluate_dump(dump, labels, progress)
    if accuracy.missing:
        first = ", ".join(accuracy.first_missing)
        raise DataError(
            f"{dump}: {accuracy.missing:,} labelled images have no scores (first: {first}); `modelport evaluate` counts them as wrong"
        )
    if accuracy.extra:
        first = ", ".join(accuracy.first_extra)
        raise DataError(
            f"{dump}: {accuracy.extra:,} score files have no label (first: {first}); are they left from another run?"
        )
    if accuracy.failed:
        raise DataError(
            f"{dump}: {accuracy.failed:,} images have scores that are not finite; `modelport evaluate` counts them as wrong"
        )
    write_text(Path(output), guide_result(accuracy) + "\n")
    return accuracy
