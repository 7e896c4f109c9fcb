"""`python benchmarks [--quick] [--out FILE]`: every table, and all figures as JSON. Run it on an idle machine."""

from __future__ import annotations

import argparse
from pathlib import Path

import overhead
import preprocessing
import pure
from interleave import Figure, save, show

from modelport.exclusive import watch
from modelport.host import environment


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: one short turn, batch 1 only; its figures mean little"
    )
    parser.add_argument("--batches", default="1,4,8,16,32", help="batch sizes of pure inference")
    parser.add_argument("--out", type=Path, default=Path(".demo/bench.json"))
    options = parser.parse_args()
    length = {"turns": 1, "seconds": 0.2} if options.quick else {"turns": 5, "seconds": 2.0}
    batches = (1,) if options.quick else tuple(int(size) for size in options.batches.split(","))
    sections: dict[str, list[Figure]] = {}
    with watch() as watched:
        sections["preprocessing, one thread, to uint8"] = preprocessing.measure(**length)
        sections["overhead: prepared 64 px files, no inference"] = overhead.measure(**length)
        sections |= pure.measure(batches, **length)
    for title, figures in sections.items():
        show(title, figures)
    hygiene = watched.hygiene
    print(f"machine: {'BUSY: ' + hygiene.text if hygiene.busy else 'idle but for this'}")
    save(options.out, sections, {**environment().jsonable(), "hygiene": hygiene.jsonable()})
    print(f"all figures: {options.out}")


if __name__ == "__main__":
    main()
