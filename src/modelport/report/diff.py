"""What a layer-by-layer comparison says: a sentence, tables, the chart of error by depth, and the page."""

from __future__ import annotations

import shlex

from ..results.diff import Culprit, DiffResult, FixResult, FixStep, LayerError, TensorError
from .charts import BLUE, ORANGE, RED, Chart, draw, plain
from .rows import Table, percent

_WORST = 20  # layers in the table
_FLOOR = 1e-8  # lowest relative distance that the chart shows; 0 has no place on a logarithmic axis
_SHORT = {"relative_distance": "RED", "kl_divergence": "KL", "rmse": "RMSE", "mean_relative_error": "MRE"}


def diff_verdict(result: DiffResult) -> str:
    """What to make of it, and what to do, in a sentence or two."""
    culprit = result.culprit
    if culprit is None:
        worst = result.worst
        looked = len(result.layers)
        return (
            f"NO OPERATOR FALLS OUT: the scores of {result.b.name} are off by {_figure(result.scores)}{_mark(result)}, the worst of "
            f"{looked} layers looked at by {_figure(worst.error)} ({worst.operator})"
        )
    layer = culprit.layer
    where = f"{layer.operator} ({layer.op_type}, {result.b.precision})"
    if culprit.kind == "own":
        text = f"FALLS OUT at {where}: {_own(layer, culprit, result)}"
        text += "".join(f"; {difference}" for difference in culprit.differs)
    else:
        own = f", of which it added {_figure(layer.own)} itself" if layer.own is not None else ""
        text = f"NO SINGLE OPERATOR: errors add up, past the marks first at {where}: off by {_figure(layer.error)}{own}"
    if culprit.crossed_at:
        text += f" (before, small errors had added up past the marks at {culprit.crossed_at})"
    if result.recovers:
        text += f". The scores are within the marks all the same ({_figure(result.scores)})"
    return f"{text}. {_advice(result, culprit)}"


def fix_verdict(fix: FixResult) -> str:
    """What the fix came to, in one sentence."""
    floor = f"{fix.max_drop_points:g} accepted"
    before = _lost(fix, fix.steps[0])
    if not fix.passed:
        ran = [step for step in fix.steps if step.loss_points is not None]
        best = min(ran, key=lambda step: step.loss_points or 0.0, default=None)
        closest = f"; closest: {_lost(fix, best)} with {best.kept} in floating point" if best is not None else ""
        return f"NOT FIXED: {before}, {floor}, and no half of its operators in floating point changes that{closest}"
    if not fix.kept:
        return f"NOTHING TO FIX: {before}, {floor}"
    held = next(step for step in fix.steps if step.kept == len(fix.kept) and step.passed)
    return (
        f"FIXED: {_lost(fix, held)} with {len(fix.kept)} of {fix.candidates} operators in floating point, {before} without "
        f"({floor}): {fix.output}"
    )


def _lost(fix: FixResult, step: FixStep) -> str:
    figure = "—" if step.loss_points is None else f"{step.loss_points:.2f}"
    return f"{figure} points of top-1 lost" if fix.labelled else f"{figure} % of decisions changed"


def sides_table(result: DiffResult) -> Table:
    """What was compared, on what, and how far out the scores are."""
    matched, runs = result.matched, result.runs
    source = (
        f"images of {result.source}" if result.source else "images of random noise: give --images for real activations"
    )
    tensors = f"{matched.compared:,} compared of {matched.common:,} in common (A has {matched.a:,}, B {matched.b:,})"
    if matched.other_shape:
        tensors += f"; {matched.other_shape:,} more of the same name have another shape"
    rows = [
        ("A, the reference", f"{result.a.name}: {result.a.runs}"),
        ("B", f"{result.b.name}: {result.b.runs}"),
        ("on", f"{result.images:,} {source}"),
        ("tensors", tensors),
        ("runs", f"{runs.a} of A, {runs.b} of B with at most {result.max_taps} tensors each; {runs.operators} of single operators of A"),
        ("marks", _marks(result)),
        ("scores", f"{_figure(result.scores)}, cosine {result.scores.cosine:.6f}, largest error {result.scores.max_abs_error:.3g}"),
    ]  # fmt: skip
    if result.tapping is not None:
        rows.append(("looking changed B", f"scores by up to {_figure(result.tapping)}"))
    return Table(
        "Compared",
        ("", ""),
        rows,
        notes=["Figures without a name are relative Euclidean distances (RED), ‖B − A‖ / ‖A‖."],
    )


def layers_table(result: DiffResult) -> Table:
    """The layers that are farthest out, by their own error where every layer was compared; else all that were looked at."""
    layers = list(result.layers)
    title = f"Layers looked at ({len(layers)} of {result.matched.compared})"
    if result.whole:
        title = f"Worst layers by their own error ({min(_WORST, len(layers))} of {len(layers)})"
        layers.sort(key=lambda layer: result.marks.severity(layer.own or layer.error), reverse=True)
        layers = layers[:_WORST]
    columns = ("operator", "type", "depth", "own RED", "RED", "cosine", "KL", "RMSE", "max", "MRE", "missed")
    rows = [
        (
            layer.operator,
            layer.op_type,
            str(layer.depth),
            "—" if layer.own is None else f"{layer.own.relative_distance:.2e}",
            f"{layer.error.relative_distance:.2e}",
            f"{layer.error.cosine:.5f}",
            f"{layer.error.kl_divergence:.1e}",
            f"{layer.error.rmse:.2e}",
            f"{layer.error.max_abs_error:.2e}",
            f"{layer.error.mean_relative_error:.1e}",
            ",\N{NO-BREAK SPACE}".join(_SHORT.get(name, name) for name in result.missed(layer)),
        )
        for layer in layers
    ]
    return Table(title, columns, rows, frozenset(range(2, 10)), _layer_notes(result))


def fix_table(result: DiffResult) -> Table | None:
    """The quantisations that were tried."""
    fix = result.fix
    if fix is None:
        return None
    rows = [_step_row(step, number) for number, step in enumerate(fix.steps)]
    loss = "points of top-1 lost" if fix.labelled else "% of decisions changed"
    notes = [f"Floor: {fix.max_drop_points:g}, on {fix.images:,} images with {fix.engine}, against A in f32."]
    if fix.kept:
        notes.append(f"In floating point, worst first: {', '.join(fix.kept)}.")
    columns = ("operators in float", "top-1", "changed decisions", loss, "")
    return Table("Fix: the worst operators in floating point", columns, rows, frozenset(range(4)), notes)


def render_diff_html(result: DiffResult) -> str:
    """The comparison as one page that needs no network."""
    from .page import page

    verdicts = [diff_verdict(result), *([fix_verdict(result.fix)] if result.fix else [])]
    return page(
        "diff.html.j2",
        result=result,
        verdicts=verdicts,
        good=result.fix.passed if result.fix else result.culprit is None,
        tables=[sides_table(result), fix_table(result), layers_table(result)],
        chart=depth_chart(result),
    )


def depth_chart(result: DiffResult, name: str = "depth") -> Chart:
    """Relative distance by depth on a logarithmic axis: what arrived and what each operator added; the mark; the culprit.

    `name` is unique on a page.
    """
    from plotly import graph_objects as go

    figure = go.Figure()
    for color, title, style, pick in (
        (
            BLUE,
            "error, inherited included",
            {"mode": "lines+markers", "line": {"width": 1}},
            lambda layer: layer.error,
        ),
        (ORANGE, "the operator's own", {"mode": "markers"}, lambda layer: layer.own),
    ):
        shown = [(layer, error) for layer in result.layers if (error := pick(layer)) is not None]
        if shown:
            _points(figure, shown, name=title, marker={"color": color, "size": 7}, **style)
    if result.culprit is not None:
        layer = result.culprit.layer
        star = {"color": RED, "size": 15, "symbol": "star"}
        title = "falls out" if result.culprit.kind == "own" else "marks first missed"
        _points(figure, [(layer, layer.error)], name=title, mode="markers", marker=star)
    if (mark := result.marks.relative_distance) is not None:
        figure.add_hline(y=mark, line={"color": RED, "dash": "dash"}, name=f"mark {mark:g}", showlegend=True)
    figure.update_xaxes(title="depth: place among the tensors in common", zeroline=False)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    text = "Relative distance of each layer by depth on a logarithmic axis, with the mark"
    return draw(figure, name, text, y_title="relative distance")


def _points(figure: object, shown: list[tuple[LayerError, TensorError]], **style: object) -> None:
    figure.add_scatter(  # type: ignore[attr-defined]
        x=[layer.depth for layer, _ in shown],
        y=[max(error.relative_distance, _FLOOR) for _, error in shown],
        text=[
            f"{plain(layer.operator)}<br>{plain(layer.op_type)}: {error.relative_distance:.2e}"
            for layer, error in shown
        ],
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        **style,
    )


def _own(layer: LayerError, culprit: Culprit, result: DiffResult) -> str:
    inherited = f"; what it got was off by {_figure(culprit.inherited)}" if culprit.inherited is not None else ""
    if layer.own is None:
        return f"off by {_figure(layer.error)}{_mark(result)}{inherited}"
    missed = [name for name in result.marks.missed(layer.own) if name in ("not finite", "cosine", "kl_divergence")]
    more = ""
    if "not finite" in missed:
        more = f", {layer.own.non_finite_differ:,} values are not finite in one of them"
    elif missed and "relative_distance" not in result.marks.missed(layer.own):
        more = f", cosine {layer.own.cosine:.5f}, KL divergence {layer.own.kl_divergence:.2g}"
    return f"of its own it is off by {_figure(layer.own)}{_mark(result)}{more}{inherited}"


def _advice(result: DiffResult, culprit: Culprit) -> str:
    b, rank = result.b, "" if result.whole else ", or rank the operators with --all"
    if result.recovers and culprit.kind == "accumulated":
        return f"Nothing needs to be done while the accuracy holds{rank}"
    if b.precision == "int8":
        return _int8_advice(result, culprit) or f"Let --fix keep the worst operators in floating point{rank}"
    if culprit.differs:
        return "Make B's file compute it as A's does: undo the rewrite, or export again"
    if result.exact:
        return f"Both compute in float32 from the same operator, so it is {b.runs} that computes it differently: try another version"
    if culprit.kind == "own":
        return f"{b.precision} does not hold this operator's values: compile with --precision f32"
    return f"{b.precision} is too coarse for a network this deep: compile with --precision f32{rank}"


def _int8_advice(result: DiffResult, culprit: Culprit) -> str | None:
    """The command that leaves the operator out, where it is to blame alone."""
    if culprit.kind != "own" or not culprit.keep_float:
        return None
    keep = " ".join(f"--keep-float {shlex.quote(name)}" for name in culprit.keep_float)
    engine = result.b.engine if result.b.kind != "onnx" else "ENGINE"
    source = shlex.quote(result.a.onnx or "MODEL.onnx")
    return (
        f"Keep it in floating point: modelport compile {source} --engine {engine} --precision int8 --calibration DIR {keep} -o OUT; or "
        "let --fix find how many operators it takes"
    )


def _figure(error: TensorError) -> str:
    return f"{error.relative_distance:.3g}"


def _mark(result: DiffResult) -> str:
    mark = result.marks.relative_distance
    return "" if mark is None else f" (mark {mark:g})"


def _marks(result: DiffResult) -> str:
    marks = result.marks
    if result.exact:
        return f"distance < {marks.relative_distance:g}: both compute in float32"
    return (
        f"distance < {marks.relative_distance:g}, cosine > {marks.cosine:g}, KL < {marks.kl_divergence:g} decide; RMSE < "
        f"{marks.rmse:g} and mean relative error < {marks.mean_relative_error:g} are shown (msit's)"
    )


def _layer_notes(result: DiffResult) -> list[str]:
    notes = [
        "Own: B's result against A's operator on B's own inputs. The other figures hold B's result against A's, with all that was "
        "inherited.",
        "RED: relative Euclidean distance. KL: Kullback-Leibler divergence. RMSE: root mean square error. max: largest error. MRE: "
        "mean relative error, which values near zero make large. missed: the marks that the result does not reach.",
    ]
    if result.a.kind == "checkpoint":
        notes[0] = (
            "Own: PyTorch's result against the ONNX file's operator on PyTorch's own inputs. The other figures hold B's result "
            "against PyTorch's, with all that was inherited."
        )
    odd = [layer for layer in result.layers if layer.error.non_finite_a or layer.error.non_finite_b]
    if odd:
        first = odd[0]
        notes.append(
            f"{len(odd)} layers have values that are not finite, which are left out of the figures (first: {first.operator}, "
            f"{first.error.non_finite_a:,} in A, {first.error.non_finite_b:,} in B)."
        )
    return notes


def _step_row(step: FixStep, number: int) -> tuple[str, ...]:
    kept = f"{step.kept:,}" + (" (as given)" if number == 0 else "")
    if step.loss_points is None or step.paired is None:
        return kept, "—", "—", "—", step.problem or ""
    top = percent(step.accuracy.topn[0]) if step.accuracy else "—"
    changed = f"{step.paired.changed:,} of {step.paired.images:,}"
    return kept, top, changed, f"{step.loss_points:.2f}", "passed" if step.passed else "FAILED"
