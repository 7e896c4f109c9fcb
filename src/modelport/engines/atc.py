"""Huawei's compiler `atc`: finding it, writing its command line, running it, and saying in one line why it failed.

Source of flags and error codes: the ATC manual of CANN. Never run against a real CANN here, only against a stand-in.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CompileError, EngineUnavailableError

OUTPUT = "model"  # atc appends .om
AIPP_CONFIG = "aipp.cfg"
LOG_LEVELS = ("debug", "info", "warning", "error", "null")
_USUAL_ROOTS = (Path("/usr/local/Ascend/ascend-toolkit/latest"), Path("/usr/local/Ascend/cann"))
_PROGRAM_FOLDERS = ("bin", "compiler/bin", "atc/bin")
_RUNTIME_ROOT = Path("/usr/local/Ascend/nnrt/latest")  # a machine that only runs models has this instead of the toolkit
_VERSION_FILES = (  # below a toolkit's root; the architecture's folder is aarch64-linux or x86_64-linux
    "*-linux/ascend_toolkit_install.info",
    "ascend_toolkit_install.info",
    "*-linux/ascend_nnrt_install.info",
    "version.cfg",
)
# `version=8.0.0` in *_install.info, `toolkit_running_version=[7.6.0.1.220:8.0.0]` in version.cfg.
_VERSION = re.compile(r"^(?:version=|toolkit_running_version=.*[\[:])([^\]\s:]+)\]?\s*$", re.MULTILINE)
_CODE = re.compile(r"^\s*([A-Z]{1,2}\d{4,5}):\s*(?:\[PID: \d+\]\s*)?(?:\d{4}-\d\d-\d\d-[\d:.]+\s*)?(.*)$")
_NOISE = re.compile(r"^\s*(ATC (start|run)\b.*|\.*|Solution:.*|Possible Cause:.*|TraceBack.*)$")
_ADVICE = {
    "E10001": "look at the named parameter, and source CANN's set_env.sh",
    "E10016": "the input's name or shape does not fit the ONNX file; export it again",
    "E10054": "a required flag is empty",
    "E19010": "export with a lower --opset (11 suits every CANN), or use a newer CANN",
    "EZ9010": "export with a lower --opset (11 suits every CANN), or use a newer CANN",
    "EZ3003": "this CANN has no kernel for it on this chip: use a newer CANN, or check --soc-version",
    "EC0010": "atc imports modules from the first python3 on PATH; install the missing one there",
    "E40000": "atc imports modules from the first python3 on PATH; install the missing one there",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AtcJob:
    """One conversion. Files are written beside each other in the folder that atc is started in.

    Attributes:
        model: the ONNX file.
        input_name, shape: of its input, N x C x H x W; with AIPP too, whose own input is NHWC whatever is said here.
        soc_version: the chip, such as Ascend310; exactly one is compiled for.
        aipp: text of the AIPP configuration, or None for a float input.
        log: level of atc's own log.
        precision_mode: force_fp16 is atc's default; said all the same, so that a newer default cannot change it.
    """

    model: Path
    input_name: str
    shape: tuple[int, ...]
    soc_version: str
    aipp: str | None = None
    log: str = "error"
    precision_mode: str = "force_fp16"

    def command(self, program: str = "atc") -> tuple[str, ...]:
        """The exact command, one argument each."""
        return (
            program,
            "--framework=5",  # ONNX
            f"--model={self.model}",
            "--input_format=NCHW",
            f"--input_shape={self.input_name}:{','.join(map(str, self.shape))}",
            f"--output=./{OUTPUT}",
            f"--log={self.log}",
            f"--soc_version={self.soc_version}",
            f"--precision_mode={self.precision_mode}",
            *((f"--insert_op_conf=./{AIPP_CONFIG}",) if self.aipp else ()),
        )

    @property
    def files(self) -> dict[str, str]:
        """Files that the command reads besides the model, by name."""
        return {AIPP_CONFIG: self.aipp} if self.aipp else {}


def find() -> Path | None:
    """The atc on PATH, else the one in the toolkit's usual places, else None."""
    if on_path := shutil.which("atc"):
        return Path(on_path)
    for root in _toolkit_roots():
        for folder in _PROGRAM_FOLDERS:
            if (program := root / folder / "atc").is_file() and os.access(program, os.X_OK):
                return program
    return None


def _toolkit_roots() -> Iterator[Path]:
    if home := os.environ.get("ASCEND_TOOLKIT_HOME"):
        yield Path(home)
    yield from _USUAL_ROOTS


def require() -> Path:
    """The atc to run.

    Raises:
        EngineUnavailableError: there is none.
    """
    if program := find():
        return program
    raise EngineUnavailableError(
        "Ascend CANN's compiler atc is neither on PATH, nor in $ASCEND_TOOLKIT_HOME, nor in "
        f"{' or '.join(map(str, _USUAL_ROOTS))}: install the CANN toolkit and source its set_env.sh "
        "(compile --dry-run shows the command without it)"
    )


def cann_version() -> str | None:
    """Version of CANN here: of the toolkit that atc belongs to, else of an installed one, else of the runtime package."""
    program = find()
    own = list(program.parents)[1:5] if program else []  # up to <root>/<architecture>-linux/compiler/bin/atc
    resolved = list(program.resolve().parents)[1:5] if program else []
    for root in dict.fromkeys([*own, *resolved, *_toolkit_roots(), _RUNTIME_ROOT]):
        for pattern in _VERSION_FILES:
            for path in sorted(root.glob(pattern)):
                found = _VERSION.findall(path.read_text(encoding="utf-8", errors="replace"))
                if found:
                    return found[-1]
    return None


def run(job: AtcJob, folder: Path) -> tuple[str, Path]:
    """Run atc in `folder`; returns its output and the .om file that it made there.

    Raises:
        EngineUnavailableError: there is no atc.
        CompileError: it failed; the message holds its error code and reason.
    """
    program = require()
    for name, text in job.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    try:
        done = subprocess.run(
            job.command(str(program)),
            cwd=folder,  # atc drops kernel_meta/ and fusion_result.json where it is started
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise EngineUnavailableError(f"{program}: cannot be run: {error.strerror or error}") from error
    made = sorted(folder.glob(f"{OUTPUT}*.om"))  # some graphs get _linux_x86_64 appended to the name
    if done.returncode or len(made) != 1:
        state = f"atc exit code {done.returncode}" if done.returncode else f"atc left {len(made)} .om files, expected 1"
        raise CompileError(f"Ascend CANN cannot compile {job.model}: {explain(done.stdout)} ({state})")
    return done.stdout, made[0]


def explain(log: str) -> str:
    """Why atc failed, in one line: error code, its message, what to do; the last words where there is no code."""
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if found := _CODE.match(line):
            code, message = found.groups()
            advice = _ADVICE.get(code) or _solution(lines[number + 1 :])
            return f"{code}: {message.strip().rstrip('.')}" + (f"; {advice}" if advice else "")
    words = [line.strip() for line in lines if not _NOISE.match(line)]
    if not words:
        return "atc printed no reason; try --atc-log debug"
    advice = "; source CANN's set_env.sh" if "shared libraries" in words[-1] else ""
    return " | ".join(words[-3:]) + advice


def _solution(lines: list[str]) -> str:
    """atc's own advice, from the indented lines after an error's first one."""
    for line in lines:
        if _CODE.match(line):
            break
        _, colon, text = line.partition("Solution:")
        if colon:
            return text.strip().rstrip(".")
    return ""
