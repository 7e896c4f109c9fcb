"""Score dumps: one file per image and output, as the guide's benchmark tool and ais_bench write them.

`{stem}_{k}.txt` holds the scores on its first line, separated by single spaces; `.bin` raw little-endian float32; `.npy` a
NumPy array. The benchmark tool counts the outputs k from 1, ais_bench from 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .. import limits
from ..errors import DataError, FormatError
from ..progress import Progress, silent
from .npy import read_npy
from .predictions import TOP, Predictions, top_classes

SUFFIXES = (".txt", ".bin", ".npy")
MARKER = ".modelport-dump"  # in directories that were written here, which may therefore be replaced
_NAME = re.compile(r"(?P<stem>.+)_(?P<k>\d{1,9})")


def write_scores(directory: Path, stem: str, k: int, scores: np.ndarray, suffix: str) -> None:
    """Write one image's scores.

    Args:
        directory: where to.
        stem: the input file's name up to its extension.
        k: number of the output, from 1 (benchmark) or 0 (ais_bench).
        scores: float32, one image's; every value reads back as it was.
        suffix: `.txt`, `.bin` or `.npy`.
    """
    path = directory / f"{stem}_{k}{suffix}"
    if suffix == ".txt":
        path.write_text(
            " ".join(map(str, scores.ravel().tolist() if scores.dtype != np.float32 else _shortest(scores))) + "\n"
        )
    elif suffix == ".bin":
        path.write_bytes(scores.astype("<f4").tobytes())
    else:
        np.save(path, scores)


def _shortest(scores: np.ndarray) -> Iterator[str]:
    """The fewest digits that read back to the same float32."""
    return (
        np.format_float_positional(value, trim="-") if 1e-4 <= abs(value) < 1e7 else str(value)
        for value in scores.ravel()
    )


def is_dump(directory: Path) -> bool:
    """Whether a directory holds score dumps."""
    return directory.is_dir() and any(_parse(path) is not None for path in directory.iterdir())


def read_dump(directory: Path | str, progress: Progress = silent) -> tuple[Predictions, int]:
    """Read a dump directory, made here or by the original tools.

    Returns:
        Predictions in order of the stems (an image whose scores are not finite has an error), and the number of classes.

    Raises:
        DataError: no dumps, two files for one image, or images of unequal width.
        FormatError: a file is malformed; the message has its name and line.
    """
    directory = Path(directory)
    chosen = _choose(directory)
    with ThreadPoolExecutor() as pool:
        rows = []
        for row in pool.map(_read_top, chosen.values()):
            rows.append(row)
            progress("read scores", len(rows), len(chosen))
    widths = {width for _, width, _ in rows}
    if len(widths) > 1:
        first = rows[0][1]
        odd = next(path for path, row in zip(chosen.values(), rows, strict=True) if row[1] != first)
        raise DataError(
            f"{odd}: holds {dict(zip(chosen.values(), rows, strict=True))[odd][1]} scores, the others {first}"
        )
    top = np.stack([row[0] for row in rows])
    predictions = Predictions(
        keys=list(chosen), labels=[None] * len(chosen), top=top, errors=[row[2] for row in rows], scores=None
    )
    return predictions, widths.pop()


def _choose(directory: Path) -> dict[str, Path]:
    """The file of each image's first output, by stem."""
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory of score files ({', '.join(SUFFIXES)})")
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(directory.iterdir()):
        parsed = _parse(path)
        if parsed is None:
            continue
        stem, k = parsed
        outputs = found.setdefault(stem, {})
        if k in outputs:
            raise DataError(
                f"{directory}: {outputs[k].name} and {path.name} are of the same image; remove the stale one"
            )
        outputs[k] = path
    if not found:
        raise DataError(f"{directory}: holds no score files named STEM_K.txt, STEM_K.bin or STEM_K.npy")
    return {stem: outputs[min(outputs)] for stem, outputs in found.items()}


def _parse(path: Path) -> tuple[str, int] | None:
    match = _NAME.fullmatch(path.stem)
    return (match["stem"], int(match["k"])) if match and path.suffix in SUFFIXES and path.is_file() else None


def _read_top(path: Path) -> tuple[np.ndarray, int, str | None]:
    """Best classes (-1 beyond the model's), width, and what is wrong with the scores."""
    scores = read_scores(path)
    top = np.full(TOP, -1, dtype=np.int32)
    if not np.isfinite(scores).all():
        return top, scores.size, "the scores are not finite (NaN or infinity)"
    best = top_classes(scores[None])[0]
    top[: len(best)] = best
    return top, scores.size, None


def read_scores(path: Path) -> np.ndarray:
    """One file's scores, float32, one axis.

    Raises:
        FormatError: it is empty, or not what its suffix says.
    """
    readers: dict[str, Callable[[Path], np.ndarray]] = {".txt": _read_txt, ".bin": _read_bin, ".npy": _read_npy}
    try:
        if path.stat().st_size > limits.SCORES_BYTES:
            raise FormatError(
                f"{path}: is larger than {limits.SCORES_BYTES // limits.MIB} MiB, which no image's scores are"
            )
        scores = readers[path.suffix](path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    if scores.size == 0:
        raise FormatError(f"{path}: holds no scores")
    return scores


def _read_txt(path: Path) -> np.ndarray:
    with open(path, encoding="utf-8", errors="replace") as file:
        words = file.readline().split()
    try:
        return np.array(words, dtype=np.float32)
    except ValueError as error:
        odd = str(error).rpartition(":")[2].strip()
        raise FormatError(f"{path}:1: expected scores separated by single spaces, got {odd[:60]}") from error


def _read_bin(path: Path) -> np.ndarray:
    data = path.read_bytes()
    if len(data) % 4:
        raise FormatError(f"{path}: holds {len(data)} bytes, which is no number of float32 values")
    return np.frombuffer(data, dtype="<f4")


def _read_npy(path: Path) -> np.ndarray:
    array = read_npy(path)
    if array.dtype.kind not in "fiu":
        raise FormatError(f"{path}: holds {array.dtype}, expected numbers")
    return array.ravel().astype(np.float32)
