"""Accuracy by image name: TopN with its denominator, parity of scores, paired decisions, and the gate. Knows no engine."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from . import files
from .calibration import refuse_overlap
from .data.dump import is_dump, read_dump
from .data.labels import label_key, read_labels, require_in_range
from .data.predictions import TOP, Predictions
from .errors import DataError, FormatError
from .progress import Progress, silent
from .results import Accuracy, Gate, GateCheck, InferResult, Paired, Parity, ReferenceAccuracy

PREDICTIONS_FILE = "predictions.parquet"
INFER_FILE = "infer.json"
_WITH_BACKGROUND = 1001

log = logging.getLogger("modelport")


def evaluate(
    directory: Path | str, labels: Path | str, output: Path | str | None = None, *, force: bool = False
) -> Accuracy:
    """Evaluate predictions against a label file.

    Args:
        directory: made by `infer` (`predictions.parquet` and `infer.json`), or a dump directory of the guide's benchmark
            tool or ais_bench (`{stem}_{k}.txt`, `.bin` or `.npy`).
        labels: lines of `name class`, class from 0; or a folder of JSON files.
        output: where to write `result.json` in the guide's format; the full figures go beside it as `*.accuracy.json`.
        force: replace existing output.

    Raises:
        FormatError: predictions or labels cannot be read.
        DataError: a label is out of the model's range, no image has a label, or the model was calibrated with some of them.
    """
    directory = Path(directory)
    if not (directory / INFER_FILE).exists() and is_dump(directory):
        accuracy = evaluate_dump(directory, labels)
    else:
        result = InferResult.read(directory / INFER_FILE)
        classes, wanted = result.model.num_classes, read_labels(labels)
        require_in_range(wanted, classes, labels)
        refuse_overlap([key for key in result.calibrated_with if label_key(key) in wanted], str(directory))
        predictions = Predictions.read(directory / PREDICTIONS_FILE)
        accuracy = count_topn(predictions, wanted, classes=classes, limited=result.limit is not None)
    if output is not None:
        full = Path(output).with_suffix(".accuracy.json")
        for path in (Path(output), full):
            files.refuse_existing(path, force=force, reuse_empty=False)
        accuracy.write(full)
        files.write_text(Path(output), guide_result(accuracy) + "\n")
    return accuracy


def evaluate_dump(directory: Path | str, labels: Path | str, progress: Progress = silent) -> Accuracy:
    """Evaluate a dump directory. Labels of a model of 1001 classes move up by one, as the guide's script has it.

    Such models (TensorFlow's) keep class 0 for the background, while label files count ImageNet's classes from 0.
    """
    predictions, classes = read_dump(directory, progress)
    wanted = read_labels(labels)
    if classes == _WITH_BACKGROUND:
        log.warning("%s: 1001 classes: class 0 is taken for the background and every label moved up by one", directory)
        wanted = {key: label + 1 for key, label in wanted.items()}
    require_in_range(wanted, classes, labels)
    return count_topn(predictions, wanted, classes=classes)


def count_topn(predictions: Predictions, labels: dict[str, int], *, classes: int, limited: bool = False) -> Accuracy:
    """Count TopN hits. Missing images are in the denominator unless a `--limit` left them out on purpose.

    Raises:
        DataError: nothing is left to divide by.
    """
    keys = [label_key(key) for key in predictions.keys]
    truth = np.array([labels.get(key, -1) for key in keys], dtype=np.int64)
    known = truth >= 0
    failed = np.array([error is not None for error in predictions.errors], dtype=bool)
    right = (predictions.top == truth[:, None]) & (known & ~failed)[:, None]
    present = set(keys)
    missing = [key for key in labels if key not in present]
    extra = [predictions.keys[row] for row in np.flatnonzero(~known)]
    images = int(known.sum()) + (0 if limited else len(missing))
    if not known.any():
        raise DataError(
            f"none of the {len(keys)} predicted images has a label (first image: {keys[0] if keys else 'none'})"
        )
    return Accuracy(
        images=images,
        classes=classes,
        hits=tuple(int(count) for count in np.cumsum(right.sum(axis=0))[:TOP]),
        missing=0 if limited else len(missing),
        not_requested=len(missing) if limited else 0,
        extra=len(extra),
        failed=int((failed & known).sum()),
        first_missing=() if limited else tuple(missing[:5]),
        first_extra=tuple(extra[:5]),
    )


def guide_result(accuracy: Accuracy) -> str:
    """The guide's `result.json`: one line, every value a string, percentages rounded to two places."""
    values = [("Number of images", str(accuracy.images)), ("Number of classes", str(accuracy.classes))]
    values += [(f"Top{n} accuracy", f"{round(share * 100, 2)}%") for n, share in enumerate(accuracy.topn, start=1)]
    return json.dumps(
        {"title": "Overall statistical evaluation", "value": [{"key": key, "value": value} for key, value in values]}
    )


def measure_parity(
    reference: np.ndarray, scores: np.ndarray, *, against: str, tolerance: float | None = None
) -> Parity:
    """Hold scores against those of the source on the same inputs.

    Args:
        reference, scores: N x classes.
        against: name of the source.
        tolerance: largest error accepted, as a share of the largest score of the source.
    """
    if reference.shape != scores.shape:
        raise FormatError(f"scores have shape {scores.shape}, those of {against} have {reference.shape}")
    ours, theirs = scores.astype(np.float64), reference.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not finite ends as NaN, which passes nothing
        error = np.abs(ours - theirs)
        norms = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
        cosine = (ours * theirs).sum(axis=1) / (norms[0] * norms[1])
        dead = (norms[0] == 0) | (norms[1] == 0)
        cosine[dead] = (norms[0] == norms[1])[dead]
    return Parity(
        against=against,
        samples=len(scores),
        max_abs_error=float(error.max()),
        mean_abs_error=float(error.mean()),
        scale=float(np.abs(theirs).max()),
        cosine=float(cosine.min()),
        top1_agreement=float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
        tolerance=tolerance,
    )


def compare_scores(
    reference: Predictions, ours: Predictions, *, against: str, tolerance: float | None = None
) -> Parity | None:
    """Parity of kept scores over the images that both could classify; None where there is no such image."""
    if reference.scores is None or ours.scores is None:
        raise DataError(f"the predictions, or those of {against}, hold no scores: infer with --scores")
    both = [a is None and b is None for a, b in zip(reference.errors, ours.errors, strict=True)]
    if not any(both):
        return None
    return measure_parity(reference.scores[both], ours.scores[both], against=against, tolerance=tolerance)


def compare_decisions(reference: Predictions, ours: Predictions, labels: dict[str, int], *, against: str) -> Paired:
    """Compare first predictions image by image.

    Raises:
        DataError: the two are not of the same images in the same order.
    """
    from scipy.stats import binomtest

    if reference.keys != ours.keys:
        raise DataError(f"the predictions and those of {against} are not of the same images")
    truth = np.array([labels.get(label_key(key), -1) for key in ours.keys])
    known = truth >= 0
    was, now = reference.top[:, 0] == truth, ours.top[:, 0] == truth
    lost, gained = int((was & ~now & known).sum()), int((~was & now & known).sum())
    return Paired(
        against=against,
        images=len(ours.keys),
        changed=int((reference.top[:, 0] != ours.top[:, 0]).sum()),
        lost=lost,
        gained=gained,
        p_value=float(binomtest(lost, lost + gained, 0.5).pvalue) if lost + gained else 1.0,
    )


def judge(
    accuracy: Accuracy | None,
    *,
    tolerance_points: float,
    recorded: ReferenceAccuracy | None = None,
    source: Accuracy | None = None,
    parity: Parity | None = None,
) -> Gate:
    """The verdict: no drop of Top1 or Top5 beyond the tolerance, and parity where it has a tolerance."""
    checks = []
    if accuracy is not None:
        top1, top5 = accuracy.topn[0] * 100, accuracy.topn[-1] * 100
        if recorded is not None:
            checks.append(_check(f"top1 against {recorded.source}", recorded.top1, top1, tolerance_points))
            if recorded.top5 is not None:
                checks.append(_check(f"top5 against {recorded.source}", recorded.top5, top5, tolerance_points))
        if source is not None:
            checks.append(
                _check("top1 against the source on the same images", source.topn[0] * 100, top1, tolerance_points)
            )
            checks.append(
                _check("top5 against the source on the same images", source.topn[-1] * 100, top5, tolerance_points)
            )
    if parity is not None and parity.tolerance is not None:
        checks.append(
            GateCheck(
                name=f"largest score error against {parity.against}",
                unit="relative",
                reference=None,
                measured=parity.relative_error,
                limit=parity.tolerance,
                passed=parity.passed,
            )
        )
    return Gate(tolerance_points=tolerance_points, checks=tuple(checks))


def _check(name: str, reference: float, measured: float, tolerance: float) -> GateCheck:
    # Half a millionth of a point: the fractions behind both figures are exact, their difference is not.
    passed = reference - measured <= tolerance + 5e-7
    return GateCheck(name=name, unit="points", reference=reference, measured=measured, limit=tolerance, passed=passed)
