"""Draw the tutorial's pictures of the terminal: after `make demo`, on an idle machine, `.venv/bin/python docs/pictures.py`.

Each picture is what a command really printed, in docs/pictures/NAME.svg, without fonts from elsewhere.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS = 140  # of the terminal that the commands see
VAL = "--images .demo/digits/val --labels .demo/digits/val_label.txt"
BEFORE = (
    "modelport compile .demo/run/model.onnx --engine openvino --batch-size 8 -o digits-openvino",
    f"modelport infer digits-openvino {VAL} -o digits-predictions",
    "modelport compile .demo/run/model.onnx --engine openvino --batch-size 8 --crop-pct 0.7 -o cropped",
    f"modelport infer cropped {VAL} -o cropped-predictions",
)
PICTURES = {  # name: the command, and the first words of the table after which it is cut off
    "demo": ("modelport run recipes/digits.yaml --out .demo/run", "Three speeds"),
    "infer": (f"modelport infer digits-openvino {VAL} -o digits-predictions", "Stages"),
    "evaluate": ("modelport evaluate digits-predictions", "Worst classes"),
    "cropped": ("modelport evaluate cropped-predictions", "Worst classes"),
}


def run(line: str, folder: Path) -> str:
    """What a command prints to a terminal, its log apart."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "MODELPORT_HISTORY": "off"}
    words = [sys.executable, "-m", *shlex.split(line)]
    return subprocess.run(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True, encoding="utf-8"
    ).stdout


def draw(line: str, printed: str, target: Path) -> None:
    """Write what was printed as a picture of a terminal."""
    text = Text.from_ansi("\n".join(row.rstrip() for row in printed.strip("\n").splitlines()))
    width = max(100, *(len(row) for row in [f"$ {line}", *text.plain.splitlines()]))
    console = Console(record=True, width=width, file=StringIO(), force_terminal=True)
    console.print(f"[bold green]$[/] {line}\n", highlight=False)
    console.print(text)
    from rich._export_format import CONSOLE_SVG_FORMAT

    own_fonts = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.S).replace(
        "Fira Code", "ui-monospace"
    )
    target.write_text(console.export_svg(title="modelport", code_format=own_fonts), encoding="utf-8")


def main() -> None:
    """Draw all of them."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for part in (".demo", "recipes"):
            (folder / part).symlink_to(ROOT / part)
        for line in BEFORE:
            run(line, folder)
        for picture, (line, end) in PICTURES.items():
            printed = run(line, folder)
            plain = Text.from_ansi(printed).plain.splitlines()
            cut = next((row for row, text in enumerate(plain) if text.startswith(end)), len(plain))
            draw(line, "\n".join(printed.splitlines()[:cut]), ROOT / "docs" / "pictures" / f"{picture}.svg")


if __name__ == "__main__":
    main()
