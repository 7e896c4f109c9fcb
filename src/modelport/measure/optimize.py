"""`optimize`: rewrites of a graph, each proven equal, and kept only where it is faster on its target."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import files
from ..data.source import Source
from ..engines import load
from ..engines.base import CompileOptions, Engine
from ..errors import CompileError, FormatError
from ..graph import passes, read_classifier
from ..graph.quantized import is_quantized
from ..host import environment
from ..progress import Progress, silent
from ..results import OptimizationResult, PassDecision
from ..spec import Precision, Preprocess
from .equality import NOISE_SAMPLES, TOLERANCE, samples_for
from .paired import TurnOptions
from .rewrites import MIN_GAIN, Job, Rewrites

RECORD_SUFFIX = ".optimization.json"
log = logging.getLogger("modelport")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizeOptions:
    """What to optimise for, and how to decide.

    Attributes:
        target: the engine.
        precision: that it is measured in; None takes the engine's own.
        batch_size: None takes the file's where it is fixed, else 1.
        passes: names of those to try; None tries all.
        measure: False applies by rule what adds no arithmetic, and what `passes` names.
        turns: rounds, length of a turn, threads.
        min_gain: smallest gain that is kept, as a fraction.
        tolerance: largest difference of a score, as a share of the largest score.
        images: real images for the proofs, besides noise.
        preprocess: how they are prepared; None takes what the file says.
        num_classes: for a file that does not say.
        compile_timeout_s: until a compiler is ended.
    """

    target: str
    precision: Precision | None = None
    batch_size: int | None = None
    passes: Sequence[str] | None = None
    measure: bool = True
    turns: TurnOptions = field(default_factory=TurnOptions)
    min_gain: float = MIN_GAIN
    tolerance: float = TOLERANCE
    images: Source | Path | str | None = None
    preprocess: Preprocess | None = None
    num_classes: int | None = None
    compile_timeout_s: float | None = 600.0


def record_path(output: Path) -> Path:
    """Where the decisions are written: `model.optimization.json` beside `model.onnx`."""
    return output.with_name(output.stem + RECORD_SUFFIX)


def optimize(
    onnx: Path | str,
    output: Path | str,
    *,
    options: OptimizeOptions,
    force: bool = False,
    progress: Progress = silent,
) -> OptimizationResult:
    """Rewrite a classifier's graph for a target and write it, with the decisions beside it.

    Each pass is applied on top of what has been kept, proven against the original in float32, compiled for the target, and
    timed in turn with its predecessor, twice where it wins. Where nothing is kept, the output is the source as it was.

    Args:
        onnx: the classifier, not quantised.
        output: ONNX file to write; the ModelSpec in its metadata is the source's.
        options: target, passes, how to decide.
        force: replace `output` and its decisions.
        progress: called as passes are done.

    Raises:
        FormatError: the file is no image classifier, is quantised, or the preprocessing is unknown.
        EngineUnavailableError: the engine, ONNX Runtime or onnxscript is not installed.
        CompileError: the engine cannot compile the source.
        ValueError: no pass has such a name.
        OutputError: `output` exists.
    """
    output = Path(output)
    chosen = passes.select(options.passes)
    job = _prepare(Path(onnx), options)
    for path in (output, record_path(output)):
        files.refuse_existing(path, force=force, reuse_empty=False)
    size = job.spec.preprocess.input_size if job.spec else job.graph.input_size
    samples = samples_for(size, options.images, job.spec and job.spec.preprocess)
    decisions: list[PassDecision] = []
    with tempfile.TemporaryDirectory(prefix="modelport-") as place:
        rewrites = Rewrites(job, samples, Path(place))
        for done, choice in enumerate(chosen):
            progress("optimize", done, len(chosen))
            decisions.append(decision := rewrites.consider(choice))
            gain = f": {decision.timing.text}" if decision.timing else ""
            log.info("%s: %s: %s%s", decision.name, decision.outcome, decision.reason, gain)
        progress("optimize", len(chosen), len(chosen))
        result = _result(job, options, rewrites, decisions, images=len(samples) - NOISE_SAMPLES)
        files.write_bytes(output, rewrites.content())
        result.write(record_path(output))
    return result


def _prepare(path: Path, options: OptimizeOptions) -> Job:
    engine = load(options.target)
    graph = read_classifier(path)
    if is_quantized(path):
        raise FormatError(f"{path}: is quantised: optimise the float32 file, then quantise the result")
    wanted = CompileOptions(
        precision=options.precision or engine.precisions[0], batch_size=options.batch_size or graph.batch_size or 1
    )
    if not engine.accelerator:  # an accelerator's would ask for its chip, which need not be here
        wanted = engine.resolve(wanted)
    if wanted.precision is Precision.INT8:
        raise CompileError(
            f"{path}: holds float32 weights: optimise it at another --precision of {engine.title}, then compile the result "
            "with --precision int8 --calibration DIR"
        )
    measured = options.measure and not engine.accelerator
    if measured:
        engine.version()
    spec = None
    if measured or options.images is not None or options.preprocess or graph.spec or None in graph.input_size:
        spec = graph.resolve_spec(options.preprocess, options.num_classes)
    graph.require_batch(wanted.batch_size)
    return Job(
        graph=graph,
        spec=spec,
        engine=engine,
        compile=wanted,
        measured=measured,
        turns=options.turns,
        min_gain=options.min_gain,
        tolerance=options.tolerance,
        compile_timeout_s=options.compile_timeout_s,
    )


def _basis(engine: Engine, options: OptimizeOptions, measured: bool) -> str:
    if measured:
        return (
            f"measured on {engine.title}: kept where the median of {options.turns.rounds} interleaved rounds is at least "
            f"{options.min_gain * 100:g} % faster and its 95 % interval lies above no gain, in two timings"
        )
    rule = "by rule: what adds no arithmetic is kept, and what --passes names"
    if engine.accelerator:
        return f"{rule}; this command cannot measure {engine.title}, so that it is faster there is not proven"
    return f"{rule}; nothing was measured, so that it is faster is not proven"


def _result(
    job: Job, options: OptimizeOptions, rewrites: Rewrites, decisions: list[PassDecision], *, images: int
) -> OptimizationResult:
    from ..graph.passes.base import operators

    return OptimizationResult(
        source=job.graph.path.name,
        source_sha256=job.graph.sha256,
        output_sha256=hashlib.sha256(rewrites.content()).hexdigest(),
        model=job.spec,
        opset=job.graph.opset,
        target=job.engine.name,
        engine_version=job.engine.version() if job.measured else None,
        precision=job.compile.precision,
        batch_size=job.compile.batch_size,
        threads=options.turns.threads,
        measured=job.measured,
        basis=_basis(job.engine, options, job.measured),
        min_gain=options.min_gain,
        rounds=options.turns.rounds,
        seconds=options.turns.seconds,
        tolerance=options.tolerance,
        noise_samples=NOISE_SAMPLES,
        images=images,
        operators_before=operators(rewrites.source),
        operators_after=operators(rewrites.model),
        decisions=tuple(decisions),
        total=rewrites.total_timing(decisions),
        environment=environment(),
    )
