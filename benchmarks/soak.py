"""`python benchmarks/soak.py [--quick] [--out FILE]`: very many images through `modelport infer`, watched from outside.

A million prepared files through the null engine, and 20,000 images through a real one. The files are hard links to a few: what
is soaked is this program, not the disk. Exit 1 where memory after the last tenth exceeds that after the first by more than
50 MB, or descriptors have grown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from rich.console import Console
from rich.table import Table

from modelport.accuracy import INFER_FILE
from modelport.data.parts import JOURNAL
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.graph.classifier import SPEC_KEY
from modelport.host import environment
from modelport.recipe import Recipe
from modelport.results import InferResult
from modelport.spec import ModelSpec, Preprocess

MOST_GROWTH_MB, MORE_DESCRIPTORS = 50, 4  # a reader and a part being written come and go between two looks
DIFFERENT = 64  # files; the rest are links to them, of which a file system takes some 65,000 each
TINY = Preprocess(input_size=(3, 8, 8))
DIGITS = Path(__file__).parents[1] / "recipes" / "digits.yaml"


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the process: seconds since its start, images whose predictions are durable, resident MB, open descriptors."""

    seconds: float
    images: int
    rss_mb: float
    descriptors: int


@dataclass(frozen=True, slots=True)
class Soaked:
    """One run.

    Attributes:
        rate: images a second, end to end, as the run itself says.
        first, last: the look after the first tenth of the images, and of those in the last tenth the one with most memory (at the
            very end a process has given most of it back).
        peak_mb: largest resident memory.
        planned_s: until the first image was done for good.
        samples: all looks.
    """

    name: str
    images: int
    failures: int
    rate: float
    first: Sample
    last: Sample
    peak_mb: float
    planned_s: float
    samples: tuple[Sample, ...]

    @property
    def growth_mb(self) -> float:
        """Memory after the last tenth − memory after the first."""
        return self.last.rss_mb - self.first.rss_mb

    @property
    def flat(self) -> bool:
        """Whether neither memory nor descriptors grew."""
        more = self.last.descriptors - self.first.descriptors
        return self.growth_mb <= MOST_GROWTH_MB and more <= MORE_DESCRIPTORS


def soak(name: str, model: Path, images: Path, count: int, every_s: float) -> Soaked:
    """Run `modelport infer` in a child process and look at it from time to time."""
    output = images.with_name(f"{images.name}-predictions")
    line = [
        sys.executable,
        "-m",
        "modelport",
        "infer",
        str(model),
        "--images",
        str(images),
        "-o",
        str(output),
        "--no-history",
    ]
    with open(output.with_suffix(".log"), "w+") as log:
        child = psutil.Popen([*line, "--json"], stdout=subprocess.DEVNULL, stderr=log)
        samples = _watch(child, output / JOURNAL, every_s)
        if child.returncode:
            log.seek(0)
            sys.exit(f"{name}: modelport infer exited {child.returncode}: {log.read().strip()[-500:]}")
    result = InferResult.read(output / INFER_FILE)
    assert result.images == count, f"{result.images} images were classified, expected {count}"
    return Soaked(
        name=name,
        images=count,
        failures=result.failures,
        rate=result.e2e.throughput,
        first=next((sample for sample in samples if sample.images >= count / 10), samples[-1]),
        last=max(samples[len(samples) // 2 :], key=lambda sample: (sample.images >= count * 9 / 10, sample.rss_mb)),
        peak_mb=max(sample.rss_mb for sample in samples),
        planned_s=next((sample.seconds for sample in samples if sample.images), samples[-1].seconds),
        samples=tuple(samples),
    )


def _watch(child: psutil.Popen, journal: Path, every_s: float) -> list[Sample]:
    start, samples = monotonic(), []
    while child.poll() is None:
        try:
            rss, descriptors = child.memory_info().rss / 1e6, child.num_fds()
        except psutil.Error:  # it ended just now
            break
        if rss:
            samples.append(Sample(monotonic() - start, _done(journal), rss, descriptors))
        sleep(every_s)
    child.wait()
    return samples


def _done(journal: Path) -> int:
    """Images whose predictions a run has made durable, from its journal."""
    if not journal.is_file():
        return 0
    lines = journal.read_bytes().splitlines(keepends=True)
    return sum(json.loads(line).get("images", 0) for line in lines if line.endswith(b"\n"))


def null_run(directory: Path, count: int, every_s: float) -> Soaked:
    """Prepared files through the engine that computes nothing."""
    model = _tiny(directory, "null")
    rng = np.random.default_rng(0)
    originals = [rng.standard_normal(TINY.input_size).astype("<f4").tobytes() for _ in range(DIFFERENT)]
    images = _linked(directory / "prepared", originals, ".bin", count)
    return soak(f"null engine, {count:,} prepared files of 768 bytes", model, images, count, every_s)


def real_run(directory: Path, count: int, every_s: float, *, tiny: bool = False) -> Soaked:
    """PNG files through a real engine: the digits network at 64 px where it has been trained, else, or with `tiny`, a tiny one."""
    recipe = Recipe.load(DIGITS)
    checkpoint = recipe.model.checkpoint
    if not tiny and checkpoint is not None and checkpoint.exists() and recipe.data.images.exists():
        what, model = "digits network", _digits(directory, recipe)
        originals = [path.read_bytes() for path in sorted(recipe.data.images.glob("*.png"))[:DIFFERENT]]
    else:
        what, model = "tiny network", _tiny(directory, "openvino")
        originals = _pictures(directory)
    images = _linked(directory / "pictures", originals, ".png", count)
    return soak(f"OpenVINO, {what}, {count:,} PNG files", model, images, count, every_s)


def _digits(directory: Path, recipe: Recipe) -> Path:
    from modelport.exporter import ExportOptions, export

    model = recipe.model
    options = ExportOptions(
        arch=model.arch, checkpoint=model.checkpoint, num_classes=model.num_classes, preprocess=recipe.preprocess
    )
    export(options, directory / "digits.onnx")
    compile_model(
        directory / "digits.onnx", directory / "digits", engine="openvino", options=CompileOptions(batch_size=8)
    )
    return directory / "digits"


def _tiny(directory: Path, engine: str) -> Path:
    """A classifier of hardly any work."""
    size = TINY.input_size
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", ["N", *size]), ("scores", ["N", 10]))
    ]
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
    ]
    weight = np.random.default_rng(0).standard_normal((int(np.prod(size)), 10)).astype(np.float32)
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], [numpy_helper.from_array(weight, "weight")])
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = ModelSpec(arch="tiny", num_classes=10, preprocess=TINY)
    network.metadata_props.add(key=SPEC_KEY, value=spec.model_dump_json())
    onnx.save(network, directory / "tiny.onnx")
    output = directory / f"tiny-{engine}"
    compile_model(directory / "tiny.onnx", output, engine=engine, options=CompileOptions(batch_size=32))
    return output


def _pictures(directory: Path) -> list[bytes]:
    rng, found = np.random.default_rng(0), []
    for number in range(DIFFERENT):
        path = directory / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        found.append(path.read_bytes())
    return found


def _linked(folder: Path, originals: list[bytes], suffix: str, count: int) -> Path:
    """A folder of `count` files, all but the first few of them hard links."""
    folder.mkdir()
    first = []
    for number, data in enumerate(originals[:count]):
        first.append(folder / f"{number:07d}{suffix}")
        first[-1].write_bytes(data)
    for number, original in enumerate(islice(cycle(first), count - len(first)), start=len(first)):
        (folder / f"{number:07d}{suffix}").hardlink_to(original)
    return folder


def show(runs: list[Soaked]) -> None:
    """The table."""
    table = Table(title="Soak")
    for head in (
        "run",
        "images/s",
        "planning, s",
        "RSS after 1/10, MB",
        "in the last 1/10",
        "peak",
        "descriptors",
        "flat",
    ):
        table.add_column(head, justify="left" if head == "run" else "right")
    for run in runs:
        table.add_row(
            run.name, f"{run.rate:,.0f}", f"{run.planned_s:,.0f}", f"{run.first.rss_mb:,.0f}", f"{run.last.rss_mb:,.0f}",
            f"{run.peak_mb:,.0f}", f"{run.first.descriptors} → {run.last.descriptors}", "yes" if run.flat else "NO",
        )  # fmt: skip
    Console(width=160).print(table)


def main() -> None:
    """Soak, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few thousand images, tiny network")
    parser.add_argument("--null-images", type=int, default=1_000_000, help="through the null engine")
    parser.add_argument("--real-images", type=int, default=20_000, help="through a real engine")
    parser.add_argument("--work", type=Path, help="an existing directory for the files (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=Path(".demo/soak.json"))
    options = parser.parse_args()
    counts = (3_000, 300) if options.quick else (options.null_images, options.real_images)
    every_s = 0.05 if options.quick else 1.0
    work = Path(tempfile.mkdtemp(prefix="modelport-soak-", dir=options.work))
    try:
        runs = [null_run(work, counts[0], every_s), real_run(work, counts[1], every_s, tiny=options.quick)]
    finally:
        shutil.rmtree(work)
    show(runs)
    found = {"environment": environment().jsonable(), "runs": [asdict(run) | {"flat": run.flat} for run in runs]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"all samples: {options.out}")
    sys.exit(0 if all(run.flat for run in runs) else 1)


if __name__ == "__main__":
    main()
