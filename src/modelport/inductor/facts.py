"""What a package says of itself, and what the GPU in this machine is. Needs no PyTorch to read a package."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

METADATA_KEY = "modelport"
UNKNOWN_DRIVER = "unknown"
_TOOL_S = 10.0
_LARGEST_METADATA = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU: its name, its architecture such as sm_90, and the version of its driver."""

    name: str
    architecture: str
    driver: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageFacts:
    """What lies in a package.

    Attributes:
        torch: version of PyTorch that compiled it.
        device: cpu or cuda.
        dtype: of most of its convolutions and matrix products, read from the program that was compiled.
        shape: of its input; N x channels x height x width, or N x height x width x channels of pixels.
        pixels: whether the input is uint8 pixels, which it normalises itself; else normalised float32.
        tf32: whether float32 products may be rounded to TF32 on the way in.
        folded: normalisations that were folded into convolutions.
        gpu: what it was compiled for; None on the CPU.
        settings: options of the compiler, by name.
    """

    torch: str
    device: str
    dtype: str
    shape: tuple[int, int, int, int]
    pixels: bool
    tf32: bool
    folded: int
    gpu: Gpu | None
    settings: dict[str, bool]

    def text(self) -> str:
        """As it is written into the package."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, path: Path | str) -> PackageFacts:
        """Read them out of a package, without loading any of its code.

        Raises:
            ValueError: it is no package, or none that `build_package` wrote.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                names = [entry for entry in archive.infolist() if entry.filename.endswith("_metadata.json")]
                if not names or names[0].file_size > _LARGEST_METADATA:  # PyTorch writes the same ones twice
                    raise ValueError("no metadata in it")
                found = json.loads(json.loads(archive.read(names[0]))[METADATA_KEY])
            gpu = found.pop("gpu")
            found["shape"] = tuple(found["shape"])
            return cls(gpu=Gpu(**gpu) if gpu else None, **found)
        except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(f"is no AOTInductor package of modelport's ({type(error).__name__}: {error})") from error


def gpu_facts(index: int = 0) -> Gpu:
    """The GPU with this number; CUDA must be there."""
    import torch

    major, minor = torch.cuda.get_device_capability(index)
    return Gpu(name=torch.cuda.get_device_name(index), architecture=f"sm_{major}{minor}", driver=driver_version())


def driver_version() -> str:
    """Version of NVIDIA's driver, such as 580.82.07; PyTorch itself knows only the CUDA version that it offers."""
    if tool := shutil.which("nvidia-smi"):
        command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S)
        except (OSError, subprocess.TimeoutExpired):
            return UNKNOWN_DRIVER
        if answer.returncode == 0 and answer.stdout.strip():
            return answer.stdout.split()[0]
    return UNKNOWN_DRIVER
