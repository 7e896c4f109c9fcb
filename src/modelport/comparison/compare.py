"""`diff`: two stages of the same model, layer by layer, on the same images."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files
from ..data.source import Source
from ..errors import DataError, FormatError
from ..host import environment
from ..progress import Progress, silent
from ..results.diff import EXACT_MARKS, MSIT_MARKS, PLAIN_MARKS, Culprit, DiffResult, Matched, TensorError
from ..spec import Preprocess
from .cuts import Cuts, match, unfused
from .explain import differences, find_operator, quantized_operators
from .inputs import load_images
from .opening import Opener, Request
from .probe import Pair, Probe
from .search import Found, Search, make_layer
from .stages import Stage
from .table import diff_csv

if TYPE_CHECKING:
    from ..exporter.export import ExportOptions
    from .fix import FixOptions

DIFF_FILE, CSV_FILE = "diff.json", "diff.csv"
_BATCH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffOptions:
    """How to compare.

    Attributes:
        onnx: files that offline models were compiled from, where these do not lie beside them.
        limit: only the first N images; without images, so much noise.
        whole: compare every layer, for the chart of error by depth and each operator's own error; else only those that the
            search needs.
        max_taps: most tensors that are looked at in one run. Fewer disturb an engine's fusion less, and take less memory.
        preprocess, num_classes: for an ONNX file that does not say.
        export: the architecture (and what else the export was told) of a checkpoint.
    """

    onnx: tuple[Path, ...] = ()
    limit: int = 16
    whole: bool = False
    max_taps: int = 8
    preprocess: Preprocess | None = None
    num_classes: int | None = None
    export: ExportOptions | None = None

    def __post_init__(self) -> None:
        if self.limit < 1 or self.max_taps < 2:
            raise ValueError(f"limit must be at least 1 and max_taps at least 2, got {self.limit} and {self.max_taps}")


def diff(  # noqa: PLR0913
    a: Path | str,
    b: Path | str,
    images: Source | Path | str | None = None,
    *,
    output: Path | str | None = None,
    options: DiffOptions | None = None,
    fix: FixOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> DiffResult:
    """Compare two stages of the same model layer by layer, and find the first operator that falls out.

    Args:
        a: the reference: an ONNX file (run as it is, operator by operator in float32), an offline model,
            ENGINE:PRECISION, `emulation:fp16`, or a checkpoint.
        b: what is held against it, likewise.
        images: a planned source, or a folder, class subfolders, an `.info` list, an image; None takes noise.
        output: directory to make: `diff.json` and `diff.csv`; with `fix`, the quantised file too.
        options: limits, what to look at, where ONNX files lie.
        fix: for an int8 B: quantise again with the worst operators in floating point, as few as hold the floor. All of
            `images` are classified for it; `options.limit` is for the layers.
        force: replace `output`.
        progress: called as runs are done.

    Raises:
        FormatError: a side is nothing that can be compared, the ONNX file of an offline model is missing, they are two
            different models, or their layers cannot be matched.
        DataError: too few images, or a bad one.
        EngineUnavailableError: an engine is not installed, or cannot show its tensors.
        CompileError: an engine refuses the graph with tapped tensors.
        OutputError: `output` exists.
    """
    options = options or DiffOptions()
    if output is not None:
        files.refuse_existing(Path(output), force=force)
    with compared(str(a), str(b), images, options) as pair:
        if fix is None:
            result = examine(pair, options, progress)
            if output is not None:
                with files.new_directory(Path(output), marker=DIFF_FILE, force=force) as directory:
                    write_result(result, directory)
            return result
        if output is None or images is None:
            raise DataError("fixing needs images, which the floor is measured on, and an output directory for the file")
        from .fix import mend

        with files.new_directory(Path(output), marker=DIFF_FILE, force=force) as directory:
            result = examine(pair, replace(options, whole=True), progress)
            result = result.model_copy(update={"fix": mend(result, pair, fix, images, directory)})
            write_result(result, directory)
        return result


def write_result(result: DiffResult, directory: Path) -> None:
    """Write `diff.json` and `diff.csv` into a directory."""
    result.write(directory / DIFF_FILE)
    files.write_text(directory / CSV_FILE, diff_csv(result))


@contextmanager
def compared(a: str, b: str, images: Source | Path | str | None, options: DiffOptions) -> Iterator[Pair]:
    """Two stages opened, held against each other, and matched."""
    request = Request(
        onnx=options.onnx, preprocess=options.preprocess, num_classes=options.num_classes, export=options.export
    )
    with tempfile.TemporaryDirectory(prefix="modelport-diff-") as place:
        first, second = Opener(request, Path(place)).open_both(a, b)
        _require_same_model(first, second)
        network = first.network or second.network
        assert network is not None
        common = match(network, second.network, first.shapes, f"{a} and {b}")
        every = Cuts(network, common.names)
        fused = [stage.network for stage in (first, second) if stage.fuses and stage.network is not None]
        names = unfused(network, common.names, *fused) if fused else common.names
        sizes = [stage.batch for stage in (first, second) if stage.batch]
        batch = math.lcm(*sizes) if sizes else min(_BATCH, options.limit)
        loaded = load_images(images, first.spec.preprocess, limit=options.limit, batch=batch)
        yield Pair(
            a=first,
            b=second,
            common=common,
            cuts=Cuts(network, names),
            every=every,
            images=loaded,
            max_taps=options.max_taps,
            folder=Path(place),
        )


def examine(pair: Pair, options: DiffOptions, progress: Progress = silent) -> DiffResult:
    """Search, or compare every layer and then search what is known already."""
    sides = (pair.a.side, pair.b.side)
    exact, plain = all(side.exact for side in sides), all(side.kind == "onnx" for side in sides)
    marks = (PLAIN_MARKS if plain else EXACT_MARKS) if exact else MSIT_MARKS
    probe = Probe(pair, progress)
    probe.untapped("b")  # first, so that every tapped run is held against it
    own = _every_layer(probe) if options.whole else {}
    found = Search(probe, marks, own).run()
    scores, tapping = probe.scores()
    looked = [name for name in pair.every.names if name in probe.errors]
    own |= found.own
    regions = {name: pair.cuts if name in pair.cuts.place else pair.every for name in looked}
    return DiffResult(
        a=pair.a.side,
        b=pair.b.side,
        arch=pair.a.spec.arch,
        marks=marks,
        exact=exact,
        images=pair.images.count,
        source=pair.images.source,
        matched=Matched(
            a=len(pair.a.shapes),
            b=len(pair.b.shapes),
            common=len(pair.common.names),
            compared=len(pair.cuts),
            other_shape=len(pair.common.other_shape),
        ),
        runs=probe.runs,
        max_taps=options.max_taps,
        whole=options.whole,
        layers=tuple(make_layer(probe, name, own, regions[name].operators(name)) for name in looked),
        scores=scores,
        tapping=tapping,
        culprit=_explained(found, pair),
        recovers=found.recovers,
        environment=environment(),
    )


def _every_layer(probe: Probe) -> dict[str, TensorError]:
    cuts = probe.pair.cuts
    probe.planned = 2 * math.ceil(len(cuts) / probe.pair.max_taps) + math.ceil(len(cuts) * 2 / probe.pair.max_taps)
    probe.look(cuts.names)
    return probe.own(cuts.names, cuts)


def _explained(found: Found, pair: Pair) -> Culprit | None:
    """The culprit with how its operator differs between the files, and what int8 should leave out."""
    culprit, ours, theirs = found.culprit, pair.a.network, pair.b.network
    if culprit is None or theirs is None:
        return culprit
    changes: dict[str, tuple[str, ...]] = {}
    if ours is not None and culprit.kind == "own":
        told = [differences(ours, theirs, find_operator(ours, name)) for name in culprit.layer.operators]
        changes["differs"] = tuple(text for texts in told for text in texts)
    if pair.b.side.precision == "int8":
        changes["keep_float"] = _quantized_with(culprit.layer.operator, pair)
    return culprit.model_copy(update=changes)


def _quantized_with(name: str, pair: Pair) -> tuple[str, ...]:
    """The quantised operators of the layer that an operator belongs to: what an engine fuses is quantised together."""
    assert pair.b.network is not None
    quantized = quantized_operators(pair.b.network)
    layers = ([operator.name for operator in pair.cuts.operators(tensor)] for tensor in pair.cuts.names)
    together = next((layer for layer in layers if name in layer), [name])
    return tuple(each for each in together if each in quantized)


def _require_same_model(first: Stage, second: Stage) -> None:
    ours, theirs = first.spec, second.spec
    pairs = (
        ("input", ours.preprocess.input_size, theirs.preprocess.input_size),
        ("number of classes", ours.num_classes, theirs.num_classes),
    )
    named = [f"{what} {_plain(a)} and {_plain(b)}" for what, a, b in pairs if a != b]
    if ours.checkpoint_sha256 and theirs.checkpoint_sha256 and ours.checkpoint_sha256 != theirs.checkpoint_sha256:
        named.append(f"checkpoint {ours.checkpoint_sha256[:12]}… and {theirs.checkpoint_sha256[:12]}…")
        if ours.arch != theirs.arch:
            named.insert(0, f"architecture {ours.arch} and {theirs.arch}")
    if named:
        raise FormatError(
            f"{first.side.name} and {second.side.name} are two different models ({'; '.join(named)}); compare two stages of the "
            "same one"
        )


def _plain(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
