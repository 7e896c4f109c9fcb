"""Accuracy by image name: TopN with its denominator, parity of scores, paired decisions, and the gate. Knows no engine."""

from __future__ import annotations

import json
import logging
from glob import glob
from pathlib import Path

import numpy as np

from . import files
from .calibration import refuse_overlap
from .counting import Count, count_parts
from .data.dump import is_dump, read_dump
from .data.labels import label_key, read_labels, require_in_range
from .data.predictions import Predictions
from .errors import DataError, FormatError
from .progress import Progress, silent
from .results import Accuracy, Gate, GateCheck, InferResult, Paired, Parity, ReferenceAccuracy

PREDICTIONS_FILE = "predictions.parquet"
INFER_FILE = "infer.json"
_WITH_BACKGROUND = 1001

log = logging.getLogger("modelport")


def evaluate(
    directory: Path | str, labels: Path | str | None = None, output: Path | str | None = None, *, force: bool = False
) -> Accuracy:
    """Evaluate predictions against a label file, or against the labels that they hold.

    Args:
        directory: made by `infer` (`predictions.parquet` and `infer.json`); a directory of Parquet parts, one of these or a
            pattern, such as `parts/*.parquet`; or a dump directory of the guide's benchmark tool or ais_bench
            (`{stem}_{k}.txt`, `.bin` or `.npy`). Predictions are counted as they are read, however many there are.
        labels: lines of `name class`, class from 0; or a folder of JSON files. None: the predictions' own.
        output: where to write `result.json` in the guide's format; the full figures go beside it as `*.accuracy.json`.
        force: replace existing output.

    Raises:
        FormatError: predictions or labels cannot be read.
        DataError: a label is out of the model's range, no image has a label, one is predicted twice, or the model was
            calibrated with some of them.
    """
    directory = Path(directory)
    if not (directory / INFER_FILE).exists() and (parts := _parts(directory)):
        accuracy = count_parts(parts, read_labels(labels) if labels is not None else None)
    elif not (directory / INFER_FILE).exists() and is_dump(directory):
        if labels is None:
            raise FormatError(f"{directory}: a dump holds no labels: give a label file")
        accuracy = evaluate_dump(directory, labels)
    else:
        accuracy = _evaluate_run(directory, labels)
    if output is not None:
        full = Path(output).with_suffix(".accuracy.json")
        for path in (Path(output), full):
            files.refuse_existing(path, force=force, reuse_empty=False)
        accuracy.write(full)
        files.write_text(Path(output), guide_result(accuracy) + "\n")
    return accuracy


def _evaluate_run(directory: Path, labels: Path | str | None) -> Accuracy:
    result = InferResult.read(directory / INFER_FILE)
    wanted = None
    if labels is not None:
        wanted = read_labels(labels)
        require_in_range(wanted, result.model.num_classes, labels)
        refuse_overlap([key for key in result.calibrated_with if label_key(key) in wanted], str(directory))
    return count_parts([directory / PREDICTIONS_FILE], wanted, limited=result.limit is not None)


def _parts(where: Path) -> list[Path]:
    """Parquet files of a directory, or that a pattern matches, or the one that is given."""
    if where.is_dir():
        return sorted(where.glob("*.parquet"))
    return [where] if where.is_file() else [Path(name) for name in sorted(glob(str(where)))]


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
    count = Count(classes, labels)
    count.add(predictions.decisions)
    return count.result(limited=limited)


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
    if reference.keys != ours.keys:
        raise DataError(f"the predictions and those of {against} are not of the same images")
    truth = np.array([labels.get(label_key(key), -1) for key in ours.keys])
    return pair(reference.top[:, 0], ours.top[:, 0], truth, against=against)


def pair(reference: np.ndarray, ours: np.ndarray, truth: np.ndarray, *, against: str) -> Paired:
    """Compare first predictions of the same images: classes, -1 where there is none; `truth` is -1 where it is not known. Length N each."""
    from scipy.stats import binomtest

    known = truth >= 0
    was, now = reference == truth, ours == truth
    lost, gained = int((was & ~now & known).sum()), int((~was & now & known).sum())
    return Paired(
        against=against,
        images=len(ours),
        changed=int((reference != ours).sum()),
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
