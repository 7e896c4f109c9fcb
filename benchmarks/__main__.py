"""`python benchmarks [--quick] [--out FILE]`: every table, and all figures as JSON. Run it on an idle machine."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import end_to_end
import overhead
import preprocessing
import pure
from interleave import Figure, save, show
from models import TINY, Configuration, Models
from photographs import folder

from modelport.exclusive import watch
from modelport.host import environment
from modelport.measure.peaks import measure_peaks
from modelport.spec import Precision

QUICK = Configuration("openvino", Precision.INT8, "uint8", 2)  # what tune mostly finds; a smoke run does not search


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a smoke run: a tiny network at 64 px, batch 1, one short turn; its figures mean nothing",
    )
    parser.add_argument("--batches", default="1,4,8,16,32", help="batch sizes of pure inference and end to end")
    parser.add_argument("--turns", type=int, default=5, help="of each contestant, one after the other")
    parser.add_argument("--seconds", type=float, default=2.0, help="least length of a turn")
    parser.add_argument(
        "--work", type=Path, help="keep models there and take them up again; timings are always made anew"
    )
    parser.add_argument("--out", type=Path, default=Path(".demo/bench.json"))
    options = parser.parse_args()
    logging.getLogger("nncf").setLevel(logging.ERROR)
    quick = options.quick
    length = {"turns": 1, "seconds": 0.1} if quick else {"turns": options.turns, "seconds": options.seconds}
    batches = (1,) if quick else tuple(int(size) for size in options.batches.split(","))
    sections: dict[str, list[Figure]] = {}
    lines: list[str] = []

    def add(found: dict[str, list[Figure]]) -> None:
        for title, figures in found.items():
            sections[title] = figures
            show(title, figures)

    with watch() as watched, tempfile.TemporaryDirectory(prefix="modelport-benchmarks-") as temporary:
        directory = options.work or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        peaks = measure_peaks("openvino", seconds=0.1 if quick else 2.0)
        add({"preprocessing, one thread": preprocessing.measure(**length)})
        add({"overhead: prepared 64 px files, no inference": overhead.measure(**length)})
        sizes = overhead.memory(2_000 if quick else 50_000)
        models = Models(directory, size=64, calibration=10, arch=TINY) if quick else Models(directory)
        photos = folder(directory / "photos", 16)
        tuned = dict.fromkeys(batches, QUICK) if quick else pure.chosen_by_tune(models, batches, photos)
        found = pure.measure(models, tuned, peaks, compiled=not quick, **length)
        add(found)
        lines += [line for title, figures in found.items() for line in pure.summary(title, figures)]
        add(end_to_end.measure(models, tuned, peers=not quick, **length))
    hygiene = watched.hygiene
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} Gop/s" for name, rate in peaks.operations.items())
    lines.append(
        f"measured peaks of {peaks.engine}'s matrix products: {rates}; copying {peaks.bandwidth / 1e9:.0f} GB/s"
    )
    lines += [f"{name}: {size:,.0f}" for name, size in sizes.items()]
    lines.append(f"machine: {'BUSY: ' + hygiene.text if hygiene.busy else 'idle but for this'}")
    print("\n".join(lines))
    save(
        options.out,
        sections,
        {
            "environment": environment().jsonable(),
            "hygiene": hygiene.jsonable(),
            "peaks": peaks.jsonable(),
            "memory": sizes,
            "summary": lines,
        },
    )
    print(f"all figures: {options.out}")


if __name__ == "__main__":
    main()
