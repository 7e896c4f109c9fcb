"""`diff.csv`: the layers in the columns of msit's comparison table."""

from __future__ import annotations

import csv
import io

from ..results.diff import DiffResult

_COLUMNS = (
    *("OpType", "node", "dtype", "shape", "CosineSimilarity", "MaxAbsoluteError", "RelativeEuclideanDistance"),
    *(
        "KullbackLeiblerDivergence",
        "RootMeanSquareError",
        "MeanRelativeError",
        "OwnRelativeEuclideanDistance",
        "MarksMissed",
    ),
)


def diff_csv(result: DiffResult) -> str:
    """The layers as CSV in msit's columns, and after them the operators' own relative distance and the marks missed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for layer in result.layers:
        error = layer.error
        figures = (
            error.cosine,
            error.max_abs_error,
            error.relative_distance,
            error.kl_divergence,
            error.rmse,
            error.mean_relative_error,
        )
        shape = "x".join(map(str, layer.shape))
        own = "" if layer.own is None else f"{layer.own.relative_distance:.6g}"
        missed = " ".join(result.missed(layer))
        writer.writerow(
            [layer.op_type, layer.operator, layer.dtype, shape, *(f"{v:.6g}" for v in figures), own, missed]
        )
    return text.getvalue()
