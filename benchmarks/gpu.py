"""One command, at most eight minutes, on a machine with an NVIDIA GPU that has PyTorch, NumPy and Pillow and nothing of ours:

    PYTHONPATH=src python benchmarks/gpu.py --out DIR

Random weights and photos are made on the spot. Correctness comes first; then CSPResNeXt50 in PyTorch eager, torch.compile and
this repository's engine `inductor` at batch 1 to 512, interleaved; then end to end from JPEG files in memory and from pixels on
disk. A table is printed last; `DIR/gpu.json` has all figures and is written after each step. What there was no time for is said.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

# Worker processes import this file again: nothing heavy may stand here.


def main() -> int:
    """Read the options, set what must be set before PyTorch is imported, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="budget; the least important steps are left out first"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--dtype", choices=["fp16", "bf16", "f32"], help="of everybody; fp16 if left out, f32 on a processor"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run of a small network; its figures mean nothing")
    options = parser.parse_args()
    options.dtype = options.dtype or ("f32" if options.device == "cpu" else "fp16")
    with tempfile.TemporaryDirectory(prefix="modelport-gpu-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")  # this process finds compiled what it needs
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(
            Path(folder) / "cache"
        )  # shared with those that compile; nothing of before
        import torch
        from on_gpu.bench import main as run
        from on_gpu.record import Record

        if options.device == "cuda" and not torch.cuda.is_available():
            print(
                "there is no GPU here that PyTorch can use; --device cpu --quick tries the code without one",
                file=sys.stderr,
            )
            return 1
        return run(options, Record(options.out / "gpu.json", options.minutes * 60), Path(folder))


if __name__ == "__main__":
    sys.exit(main())
