"""`modelport guide`: the reference guide's commands, and their flags exactly as the guide writes them."""

from __future__ import annotations

from ..lazy import LazyGroup

_COMMANDS = {
    "pth2onnx": "pth2onnx",
    "atc": "atc",
    "preprocess": "preprocess",
    "get-info": "get_info",
    "benchmark": "benchmark",
    "acc-eval": "acc_eval",
    "ais-bench": "ais_bench",
}

command = LazyGroup(
    "guide",
    package=__name__,
    table=_COMMANDS,
    help="The reference guide's commands (CSPResNeXt50 on Ascend 310), on whatever engine there is.\n\n"
    "They take the guide's own command lines and write its files, and replace what they wrote before, as the originals do. "
    "docs/guide.md walks through them.",
)
