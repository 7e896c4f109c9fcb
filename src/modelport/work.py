"""A real-data run as planned, run, and described: images through the pipeline to predictions and figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from .data.decode import Decoder
from .data.decoders import Decoding, Preprocessing, make_decoder
from .data.predictions import Prediction
from .data.source import Source
from .engines.session import Session, SessionOptions
from .exclusive import watch
from .fast_check import FastSample
from .host import environment
from .offline import OfflineModel
from .pipeline import Pipeline, PipelineOptions
from .progress import Progress, silent
from .results import BadImage, DeviceStats, EndToEnd, FastCheck, Hygiene, InferResult, Interface, StageStats, Target
from .spec import ModelSpec, Preprocess


@dataclass(frozen=True, kw_only=True, slots=True)
class InferOptions:
    """What to infer and how.

    Attributes:
        limit: only the first N images.
        session: streams and threads; `share_cores` where it says nothing of streams.
        pipeline: workers, and what a bad image does.
        preprocessing: exact, or fast: near it, and how near is measured on a sample after the run.
        decoding: JPEG on the processor (cpu), or on a GPU (nvjpeg), whose pixels differ: how much is measured likewise.
    """

    limit: int | None = None
    session: SessionOptions = field(default_factory=SessionOptions)
    pipeline: PipelineOptions = field(default_factory=PipelineOptions)
    preprocessing: Preprocessing = "exact"
    decoding: Decoding = "cpu"

    @property
    def inexact(self) -> str:
        """The flags that make pixels differ from the exact path's; empty where none does."""
        found = {"--preprocess fast": self.preprocessing == "fast", "--decode nvjpeg": self.decoding == "nvjpeg"}
        return " and ".join(flag for flag, given in found.items() if given)

    def decoder(self, preprocess: Preprocess) -> Decoder:
        """What prepares the images."""
        return make_decoder(preprocess, self.preprocessing, self.decoding)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Planned work.

    Attributes:
        target: what runs.
        spec: the network's needs.
        source: the images.
        options: how.
        calibrated_with: which of the images the model was calibrated with.
        identity: what tells this model from every other, such as its manifest's digest; None takes `target` and `spec` for it.
    """

    target: Target
    spec: ModelSpec
    source: Source
    options: InferOptions
    calibrated_with: tuple[str, ...] = ()
    identity: str | None = None


def describe(model: OfflineModel, options: SessionOptions) -> Target:
    """The figures' heading: what runs, and in which precision."""
    m = model.manifest
    return Target(
        engine=m.engine.name,
        engine_version=m.engine.version,
        precision=m.precision.requested,
        executed_precision=m.precision.executed,
        batch_size=m.batch_size,
        input_dtype=m.input.dtype,
        streams=options.streams or 1,
        threads=options.threads,
        devices=options.devices,
        compiled_for=m.compiled_for,
    )


def run_work(
    session: Session, work: Work, write: Callable[[Prediction], None], progress: Progress = silent
) -> InferResult:
    """Run planned work through an open session; `write` gets each prediction, in input order. Nothing of it can be resumed."""
    decoder, inexact, bad = work.options.decoder(work.spec.preprocess), work.options.inexact, []
    pipeline = Pipeline(session, decoder, work.options.pipeline)
    sample = FastSample(work.source, inexact) if inexact else None
    with watch() as watched:
        start = perf_counter()
        for done, prediction in enumerate(pipeline.run(work.source), start=1):
            write(prediction)
            if prediction.error is not None:
                bad.append(BadImage(key=prediction.sample.key, reason=prediction.error))
            elif sample is not None:
                sample.take(done - 1, prediction.sample, int(prediction.top[0]))
            progress(f"infer {work.target.name}", done, len(work.source))
        wall = perf_counter() - start
    figures = Figures(
        e2e=EndToEnd(throughput=len(work.source) / wall, wall_s=wall),
        interface=pipeline.interface,
        stages=pipeline.stages,
        by_device=pipeline.devices,
        hygiene=watched.hygiene,
        restarts=session.restarts,
    )
    checked = sample.compare(session, decoder) if sample is not None else None
    return describe_run(work, figures, bad, checked)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """How fast a run was, and how often the engine's own process was started again; None where it had none."""

    e2e: EndToEnd
    interface: Interface
    stages: tuple[StageStats, ...]
    by_device: tuple[DeviceStats, ...]
    hygiene: Hygiene | None
    restarts: int | None
    cluster: str | None = None


def describe_run(
    work: Work, figures: Figures, bad: list[BadImage], checked: FastCheck | None, *, kept: int = 0
) -> InferResult:
    """The result of a run. `kept`: how many images an earlier run had done."""
    return InferResult(
        **work.target.model_dump(),
        model=work.spec,
        images=len(work.source),
        failures=len(bad),
        kept=kept,
        limit=work.options.limit,
        source=work.source.where,
        e2e=figures.e2e,
        interface=figures.interface,
        stages=figures.stages,
        bad_images=tuple(bad),
        environment=environment(),
        hygiene=figures.hygiene,
        restarts=figures.restarts,
        by_device=figures.by_device,
        cluster=figures.cluster,
        preprocessing=work.options.preprocessing,
        decoding=work.options.decoding,
        fast_check=checked,
        calibrated_with=work.calibrated_with,
    )
