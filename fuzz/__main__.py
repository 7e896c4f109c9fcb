"""`python -m fuzz [TARGET …]`: fuzz what reads what others wrote, and print a table; exit 1 where there are findings.

Coverage-guided, by atheris (`pip install 'modelport[fuzz]'`). Each target runs in a process of its own, with a limit on time,
on memory, and on how long one input may take. Inputs that were found to break something are kept in OUT.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from .targets import TARGETS

_SLACK_S = 600  # for loading on a busy machine, beyond the time that a target has
_MEMORY = Path("/dev/shm")  # where the files are written that parsers read
_GROWTH_MB = 50


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one target.

    Attributes:
        inputs, refused: run in all; refused with an error that has a type.
        rate: inputs a second.
        coverage: branches of Python code that were reached.
        rss_mb: largest resident memory.
        growth_mb: by which it grew after the first tenth.
        findings: errors without a type, by class and place, and what ended the process.
    """

    target: str
    inputs: int
    refused: int
    rate: float
    coverage: int
    rss_mb: int
    growth_mb: float
    findings: tuple[str, ...]

    @property
    def line(self) -> str:
        """For the table, which is Markdown."""
        cells = (self.target, f"{self.inputs:,}", f"{self.refused:,}", f"{self.rate:,.0f}", f"{self.coverage:,}")
        return f"| {' | '.join(cells)} | {self.rss_mb:,} | {self.growth_mb:+.0f} | {', '.join(self.findings) or '—'} |"


HEAD = (
    "| target | inputs | refused | inputs/s | coverage | largest RSS, MB | growth, MB | findings |\n"
    "|---|---:|---:|---:|---:|---:|---:|---|"
)


def fuzz(name: str, runs: int, seconds: int, out: Path) -> Row:
    """Fuzz one target in a child process."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        report = Path(folder) / "report.json"
        line = [sys.executable, "-m", "fuzz.worker", name, str(runs), str(seconds), str(report), str(out.resolve())]
        child = subprocess.Popen(
            line, stderr=subprocess.PIPE, text=True, errors="replace", env={**os.environ, "TMPDIR": folder}
        )
        try:
            _, log = child.communicate(timeout=seconds + _SLACK_S)
            ended = None if child.returncode == 0 else _why(log, child.returncode)
        except subprocess.TimeoutExpired:
            child.kill()
            _, log = child.communicate()
            ended = "ran past its time"
        found = json.loads(report.read_text()) if report.is_file() else {"refused": 0, "memory": [], "findings": []}
    return _row(name, log, found, ended)


def _row(name: str, log: str, found: dict, ended: str | None) -> Row:
    status = re.findall(r"#(\d+)\s+\w+\s+cov: (\d+)", log) or [("0", "0")]
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", log))
    memory = found["memory"]
    growth = (memory[-1] - memory[len(memory) // 10]) / 1e6 if memory else 0.0
    findings = (*found["findings"], *([ended] if ended else []), *(["memory grows"] if growth > _GROWTH_MB else []))
    return Row(
        target=name,
        inputs=int(stats.get("number_of_executed_units", status[-1][0])),
        refused=found["refused"],
        rate=float(stats.get("average_exec_per_sec", 0)),
        coverage=int(status[-1][1]),
        rss_mb=int(stats.get("peak_rss_mb", 0)),
        growth_mb=growth,
        findings=findings,
    )


def _why(log: str, code: int) -> str:
    """What ended the process, in libFuzzer's words where it has any."""
    told = re.findall(r"(?:ERROR: libFuzzer: |ERROR: )([^\n(]+)", log)
    return told[0].strip() if told else f"exit code {code}: {(log.strip().splitlines() or ['it printed nothing'])[-1]}"


def main() -> None:
    """Fuzz, print, save."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all if left out: {', '.join(TARGETS)}")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs of each target (default: 100,000)")
    parser.add_argument("--seconds", type=int, default=600, help="most time of a target (default: 600)")
    parser.add_argument(
        "--slow-seconds", type=int, default=120, help="of one that is mostly native code (default: 120)"
    )
    parser.add_argument("--out", type=Path, default=Path(".demo/fuzz"), help="for findings and results.json")
    options = parser.parse_args()
    if find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install 'modelport[fuzz]'")
    if unknown := [name for name in options.targets if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    print(HEAD, flush=True)
    for name in options.targets or TARGETS:
        seconds = options.slow_seconds if TARGETS[name].slow else options.seconds
        rows.append(fuzz(name, options.runs, seconds, options.out))
        print(rows[-1].line, flush=True)
    (options.out / "results.json").write_text(json.dumps([asdict(row) for row in rows], indent=2))
    sys.exit(1 if any(row.findings for row in rows) else 0)


if __name__ == "__main__":
    main()
