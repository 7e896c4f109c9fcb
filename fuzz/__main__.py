"""`python -m fuzz [TARGET …]`: fuzz what reads what others wrote, and print a table; exit 1 where there are findings.

Coverage-guided, by atheris (`pip install 'modelport[fuzz]'`). Each target runs in a process of its own, with a limit on time,
on memory, and on how long one input may take. Inputs that were found to break something are kept in OUT.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    from . import worker
except ModuleNotFoundError as missing:
    if missing.name != "atheris":
        raise
    sys.exit("fuzz: atheris is not installed: pip install 'modelport[fuzz]'")

_FORK = multiprocessing.get_context("fork")  # what is fuzzed is loaded, and instrumented, once
_SLACK_S = 300  # on a busy machine, beyond the time that a target has
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
        home = Path(folder)
        child = _FORK.Process(target=worker.run, args=(name, runs, seconds, home, out.resolve()))
        child.start()
        child.join(seconds + _SLACK_S)
        late = child.is_alive()
        child.kill()
        child.join()
        log = (home / worker.LOG).read_text(errors="replace")
        report = home / worker.REPORT
        found = json.loads(report.read_text()) if report.is_file() else {"refused": 0, "memory": [], "findings": []}
    why = "ran past its time" if late else _why(log, child.exitcode) if child.exitcode else None
    return _row(name, log, found, why)


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
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all if left out: {', '.join(worker.TARGETS)}")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs of each target (default: 100,000)")
    parser.add_argument("--seconds", type=int, default=600, help="most time of a target (default: 600)")
    parser.add_argument(
        "--slow-seconds", type=int, default=120, help="of one that is mostly native code (default: 120)"
    )
    parser.add_argument("--out", type=Path, default=Path(".demo/fuzz"), help="for findings and results.json")
    options = parser.parse_args()
    if unknown := [name for name in options.targets if name not in worker.TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(worker.TARGETS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    print(HEAD, flush=True)
    for name in options.targets or worker.TARGETS:
        seconds = options.slow_seconds if worker.TARGETS[name].slow else options.seconds
        rows.append(fuzz(name, options.runs, seconds, options.out))
        print(rows[-1].line, flush=True)
    (options.out / "results.json").write_text(json.dumps([asdict(row) for row in rows], indent=2))
    sys.exit(1 if any(row.findings for row in rows) else 0)


if __name__ == "__main__":
    main()
