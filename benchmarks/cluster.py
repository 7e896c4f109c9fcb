"""What a cluster costs: the driver's memory over many rows, one commit, and Ray against one process on the same cores.

    python benchmarks/cluster.py rows --rows 1000000
    python benchmarks/cluster.py commit
    python benchmarks/cluster.py cost MODEL --seconds 120

All go through the real command line or the real protocol. `cost` is for an idle machine, and takes four times its seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import numpy as np
import onnx
import psutil
from photographs import folder

from modelport.accuracy import INFER_FILE, PREDICTIONS_FILE
from modelport.cluster.shards import Outcome, cut
from modelport.data.parts import JOURNAL, Part, open_parts, write_part
from modelport.data.predictions import Prediction, schema
from modelport.data.source import Sample, Source, open_source
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.offline import OfflineModel
from modelport.results import InferResult
from modelport.spec import Preprocess

BATCH, SIZE, SHARD = 32, 8, 1024
GRAPH = f"""<ir_version: 8, opset_import: ["" : 17]>
nothing (float[N,3,{SIZE},{SIZE}] image) => (float[N,3] scores) {{
  pooled = GlobalAveragePool(image)
  scores = Flatten(pooled)
}}"""


def main() -> None:
    """Measure, and print a JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(required=True, dest="what")
    what.add_parser("rows").add_argument("--rows", type=int, default=1_000_000)
    what.add_parser("commit").add_argument("--shards", type=int, default=100)
    cost = what.add_parser("cost")
    cost.add_argument("model", type=Path, help="an offline model; its speed decides how many images a run has")
    cost.add_argument("--seconds", type=float, default=120.0, help="least length of a run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelport-cluster-") as work:
        if options.what == "rows":
            found = measure_rows(Path(work), options.rows)
        elif options.what == "commit":
            found = measure_commit(Path(work), options.shards)
        else:
            found = measure_cost(Path(work), options.model, options.seconds)
    print(json.dumps(found, indent=2))


def measure_rows(work: Path, rows: int) -> dict[str, float]:
    """Prepared 8 px files (links to one) through the null engine on Ray, and the driver's resident memory meanwhile."""
    (work / "nothing.onnx").write_bytes(onnx.parser.parse_model(GRAPH).SerializeToString())
    preprocess = Preprocess(input_size=(3, SIZE, SIZE))
    model = compile_model(
        work / "nothing.onnx", work / "model", engine="null", options=CompileOptions(batch_size=BATCH),
        preprocess=preprocess, num_classes=3,
    )  # fmt: skip
    (work / "one.raw").write_bytes(np.zeros((3, SIZE, SIZE), np.float32).tobytes())
    (work / "images").mkdir()
    for number in range(rows):
        (work / "images" / f"{number:09d}.bin").symlink_to("../one.raw")
    begin = perf_counter()
    driver = _infer(model.path, work / "images", work / "out", "--on", "ray")
    sizes: list[tuple[int, float]] = []  # parts listed, resident MB
    while driver.poll() is None:
        try:
            sizes.append((_listed(work / "out"), psutil.Process(driver.pid).memory_info().rss / 1e6))
        except psutil.Error:
            break
        sleep(0.5)
    assert driver.wait() == 0
    wall = perf_counter() - begin
    spread = [size for parts, size in sizes if parts > 1]
    tenth = max(1, len(spread) // 10)
    return {
        "rows": rows,
        "wall s": wall,
        "rows a second": rows / wall,
        "shards": max(parts for parts, _ in sizes) - 1,
        "driver resident MB when planned": spread[0],
        "driver resident MB, first tenth of the shards": median(spread[:tenth]),
        "driver resident MB, last tenth of the shards": median(spread[-tenth:]),
        "driver resident MB at most": max(size for _, size in sizes),
    }


def measure_commit(work: Path, shards: int) -> dict[str, float]:
    """Seconds of one commit (part and journal, fsynced), and bytes of what travels and what stays, by image."""
    keys = [f"n01440764/ILSVRC2012_val_{number:08d}.JPEG" for number in range(SHARD)]
    source = Source("x", tuple(Sample(key, Path("/data/imagenet/val") / key) for key in keys))
    rng, columns, seconds = np.random.default_rng(0), schema(1000, all_scores=False), []
    rows = [
        Prediction(s, rng.integers(0, 1000, 5, np.int32), rng.random(5, np.float32), None, content=rng.bytes(32))
        for s in source
    ]
    told, journal = Outcome(start=0, images=SHARD, actor="x pid 1", sha256="0" * 64).model_dump_json(), []
    with open_parts(work / "out", {"model": "x"}, PREDICTIONS_FILE) as parts:
        for number in range(shards):
            begin = perf_counter()
            path = parts.home / f"{number}.parquet"
            digest = write_part(path, rows, columns)
            written = perf_counter()
            Outcome.parse(json.loads(told), "x")
            parts.adopt(Part(start=number * SHARD, images=SHARD, file=path.name, sha256=digest, seconds=0.0))
            seconds.append(written - begin)
            journal.append(perf_counter() - written)
        size = path.stat().st_size
    packed = b"".join(shard.pack() for shard in cut(source, [range(SHARD)], BATCH, actors=1, most=SHARD))
    return {
        "images in a shard": SHARD,
        "an actor's commit s, median": median(seconds),
        "the driver's commit s, median": median(journal),
        "part bytes an image": size / SHARD,
        "bytes that travel for an image": len(packed) / SHARD,
    }


def measure_cost(work: Path, path: Path, seconds: float) -> dict[str, object]:
    """Whole command lines, one process against Ray, in the order A B B A; start-up included."""
    model, photos = OfflineModel.load(path), folder(work / "photographs", 64)
    few = _links(photos, work / "few", 32 * model.manifest.batch_size)
    assert _infer(path, few, work / "probe").wait() == 0
    rate = InferResult.read(work / "probe" / INFER_FILE).e2e.throughput
    images = _links(photos, work / "images", int(rate * seconds))
    walls: dict[str, list[float]] = {"here": [], "ray": []}
    for turn, on in enumerate(("here", "ray", "ray", "here")):
        begin = perf_counter()
        assert _infer(path, images, work / f"out-{turn}", "--on", on).wait() == 0
        walls[on].append(perf_counter() - begin)
    outs = {(work / f"out-{turn}" / PREDICTIONS_FILE).read_bytes() for turn in range(4)}
    hygiene = InferResult.read(work / "out-0" / INFER_FILE).hygiene
    return {
        "model": model.label,
        "images": len(open_source(images)),
        "wall s": walls,
        "Ray's cost, share of the plain run": sum(walls["ray"]) / sum(walls["here"]) - 1,
        "same bytes": len(outs) == 1,
        "machine": "idle but for this" if hygiene and not hygiene.busy else "BUSY",
    }


def _infer(model: Path, images: Path, out: Path, *words: str) -> subprocess.Popen[bytes]:
    line = [
        sys.executable,
        "-m",
        "modelport",
        "infer",
        str(model),
        "--images",
        str(images),
        "-o",
        str(out),
        "--no-history",
        *words,
    ]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL)


def _links(photos: Path, target: Path, count: int) -> Path:
    """As many names for the photographs."""
    target.mkdir()
    files = sorted(photos.iterdir())
    for number in range(count):
        (target / f"{number:08d}.jpg").symlink_to(files[number % len(files)].resolve())
    return target


def _listed(out: Path) -> int:
    """Lines of the journal."""
    return (out / JOURNAL).read_bytes().count(b"\n") if (out / JOURNAL).is_file() else 0


if __name__ == "__main__":
    main()
