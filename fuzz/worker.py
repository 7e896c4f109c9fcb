"""One target under atheris, to be run in a process of its own.

A finding is kept, and the search goes on: one input for each kind of error and place, the smallest. What Python cannot catch
(a crash of native code, a hang, too much memory) ends the process, and libFuzzer keeps the input.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import sys
import tempfile
import traceback
import warnings
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from random import Random

import atheris
import psutil

LOG, REPORT = "log", "report.json"
_PACKAGES = ["modelport", "PIL", "zipfile", "csv", "json"]  # whose branches count; watching PyYAML makes recipes slow
_HANG_S, _RSS_MB, _ALLOCATION = 20, 3072, 2 << 30
_EVERY, _MAX_BYTES = 1000, 8192

with warnings.catch_warnings(), redirect_stderr(StringIO()), atheris.instrument_imports(include=_PACKAGES):
    warnings.simplefilter("ignore")
    from .mutations import mutate
    from .targets import TARGETS, Target


class Fuzzed:
    """A target being fuzzed: how many inputs, how much memory, which findings. The report on disk is never much older."""

    def __init__(self, target: Target, report: Path, findings: Path) -> None:
        self._target, self._report, self._findings = target, report, findings
        self._process = psutil.Process()
        self._inputs = self._refused = 0
        self._memory: list[int] = []
        self._found: dict[str, bytes] = {}

    def __call__(self, data: bytes) -> None:
        """Run one input."""
        try:
            self._refused += self._target.refuses(data)
        except Exception as error:
            self._keep(error, data)
        self._inputs += 1
        if self._inputs % _EVERY == 0:
            self._memory.append(self._process.memory_info().rss)
            self._save()

    def _keep(self, error: Exception, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = next((frame for frame in reversed(frames) if "modelport" in frame.filename), frames[-1])
        name = f"{type(error).__name__}-{Path(ours.filename).stem}-{ours.lineno}"
        if name not in self._found or len(data) < len(self._found[name]):
            self._found[name] = data
            text = "".join(traceback.format_exception(error))
            (self._findings / f"{self._target.name}-{name}.bin").write_bytes(data)
            (self._findings / f"{self._target.name}-{name}.txt").write_text(text, errors="replace")
            self._save()

    def _save(self) -> None:
        report = {
            "inputs": self._inputs,
            "refused": self._refused,
            "memory": self._memory,
            "findings": sorted(self._found),
        }
        self._report.write_text(json.dumps(report))


def _mutator(data: bytes, max_size: int, seed: int) -> bytes:
    """Half the mutations are libFuzzer's, half are ours, which know values."""
    random = Random(seed)
    return atheris.Mutate(data, max_size) if random.random() < 0.5 else mutate(data, random)[:max_size]


def _dictionary(seeds: list[bytes]) -> str:
    words = sorted({word for seed in seeds for word in re.findall(rb"[A-Za-z_][\w.-]{2,30}", seed)})[:500]
    return "".join(f'"{word.decode()}"\n' for word in words)


def run(name: str, runs: int, seconds: int, home: Path, findings: Path) -> None:
    """Fuzz until the number of inputs or the time is up; then the process ends.

    Args:
        name: of the target.
        runs, seconds: when to end.
        home: an empty directory for temporary files, `LOG` and `REPORT`.
        findings: where inputs are kept.
    """
    target = TARGETS[name]
    os.dup2(os.open(home / LOG, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    tempfile.tempdir = str(home)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    seeds = target.seeds()
    for seed in seeds:  # loads what is imported late, before memory is limited
        target.refuses(seed)
    corpus = home / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limit = psutil.Process().memory_info().vms + _ALLOCATION
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    options = [f"-runs={runs}", f"-max_total_time={seconds}", f"-timeout={_HANG_S}", f"-rss_limit_mb={_RSS_MB}"]
    options += [f"-max_len={max(_MAX_BYTES, *map(len, seeds))}", "-seed=1", "-print_final_stats=1"]
    options += [f"-artifact_prefix={findings}/{name}-", str(corpus)]
    if words := _dictionary(seeds):
        (home / "words").write_text(words)
        options.append(f"-dict={home / 'words'}")
    atheris.Setup(["fuzz", *options], Fuzzed(target, home / REPORT, findings), custom_mutator=_mutator)
    atheris.Fuzz()
