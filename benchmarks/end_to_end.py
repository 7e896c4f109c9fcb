"""From JPEG files to predictions: timm's loop, the runtimes in a plain Python loop, and `modelport infer`, beside its limit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from interleave import Figure, interleave
from interleave import Work as Contestant
from models import Configuration, Models
from photographs import folder
from PIL import Image
from preprocessing import chain, to_float
from pure import running

from modelport.data.decode import Decoder
from modelport.data.source import Source, open_source
from modelport.engines import load
from modelport.engines.session import SessionOptions
from modelport.host import usable_cores
from modelport.inference import share_cores
from modelport.pipeline import PipelineOptions
from modelport.resumable import classify
from modelport.work import InferOptions, Work, describe

CORES = usable_cores()
PURE, PREPARE = "(for the limit) pure, streams", "(for the limit) preparing, one thread"


def measure(
    models: Models, tuned: dict[int, Configuration], *, peers: bool, turns: int, seconds: float
) -> dict[str, list[Figure]]:
    """A table per batch size. Ours gets its limit: cores ÷ (cores ÷ pure + seconds of one core to prepare an image)."""
    tables = {}
    for batch, best in tuned.items():
        # Enough that filling the pipeline and the last batches, when a core has nothing left to do, hardly count.
        images = folder(models.directory / f"photos-{batch}", 640 if peers else 64)
        source = open_source(images)
        with ExitStack() as stack:
            contestants: dict[str, Contestant] = _peers(models, source.limited(64), batch) if peers else {}
            name = f"modelport infer, {best.engine} {best.precision} {best.input}"
            contestants[name] = stack.enter_context(_infer(models, best, batch, source))
            streams = [Configuration(best.engine, best.precision, best.input, count) for count in (1, CORES)]
            for wanted in streams:
                contestants[f"{PURE} {wanted.streams}"] = stack.enter_context(running(models, wanted, batch))
            contestants[PREPARE] = _prepare(models, source.limited(64), best)
            figures = interleave(contestants, turns=turns, seconds=seconds)
        tables[f"end to end from JPEG files, batch {batch}"] = _limited(figures, name)
        shutil.rmtree(images)
    return tables


def _limited(figures: list[Figure], name: str) -> list[Figure]:
    by_name = {figure.name: figure for figure in figures}
    pure = np.max([figure.rates for figure in figures if figure.name.startswith(PURE)], axis=0)
    prepare_s = 1 / np.array(by_name[PREPARE].rates)
    limits = tuple(float(value) for value in CORES / (CORES / pure + prepare_s))
    return [figure.limited(limits) if figure.name == name else figure for figure in figures]


@contextmanager
def _infer(models: Models, wanted: Configuration, batch: int, source: Source) -> Iterator[Contestant]:
    """`infer` with its own choice of streams; opening the model is left out, as it is for the peers."""
    model = models.compiled(wanted, batch)
    engine, output = load(wanted.engine), models.directory / "predictions"
    options = share_cores(engine, SessionOptions())
    work = Work(
        target=describe(model, options),
        spec=model.manifest.model,
        source=source,
        options=InferOptions(session=options, pipeline=PipelineOptions(decoders=CORES)),
    )
    with engine.open(model, options) as session:

        def once() -> tuple[int, float]:
            result = classify(session, work, output, existing="replace")
            return result.images, result.e2e.wall_s

        yield once


def _prepare(models: Models, source: Source, wanted: Configuration) -> Callable[[], int]:
    decoder, size = Decoder(models.preprocess), models.size
    shape, dtype = ((size, size, 3), np.uint8) if wanted.input == "uint8" else ((3, size, size), np.float32)
    out = np.empty(shape, dtype)

    def once() -> int:
        for sample in source:
            decoder(sample, sample.read(), out)
        return len(source)

    return once


def _peers(models: Models, source: Source, batch: int) -> dict[str, Contestant]:
    """timm's validate script's loop, and what its readers write for the two runtimes."""
    import onnxruntime
    import openvino
    import torch
    from timm.data import ImageDataset, create_loader

    paths: list[Path] = [sample.origin for sample in source]
    transform = chain(*to_float(models.preprocess))
    session = onnxruntime.InferenceSession(models.onnx, providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(models.onnx, "CPU")
    network = models.network()
    labelled = [(str(path), 0) for path in paths]

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(paths), batch):
            opened = (Image.open(path).convert("RGB") for path in paths[start : start + batch])
            yield torch.stack([transform(image) for image in opened]).numpy()

    def plain(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[], int]:
        def once() -> int:
            for array in batches():
                run(array).argsort(axis=1)[:, -5:]
            return len(paths)

        return once

    def validate() -> int:
        loader = create_loader(
            ImageDataset(root="", reader=_Reader(labelled)),
            input_size=(3, models.size, models.size),
            batch_size=batch,
            use_prefetcher=False,
            crop_pct=models.preprocess.crop_pct,
            interpolation="bilinear",
            num_workers=CORES,
            device=torch.device("cpu"),
        )
        with torch.inference_mode():
            for array, _ in loader:
                network(array).topk(5)
        return len(paths)

    return {
        "timm's validate loop, PyTorch eager": validate,
        "ONNX Runtime, plain loop": plain(lambda array: session.run(None, {"image": array})[0]),
        "OpenVINO, plain loop": plain(lambda array: compiled({0: array})[0]),
    }


class _Reader:
    """What timm's ImageDataset asks of a reader."""

    def __init__(self, samples: list[tuple[str, int]]) -> None:
        self.samples = samples

    def __getitem__(self, index: int):
        path, label = self.samples[index]
        return open(path, "rb"), label

    def __len__(self) -> int:
        return len(self.samples)
