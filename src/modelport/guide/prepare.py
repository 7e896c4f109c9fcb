"""The guide's preprocessing step: each image as raw float32, CHW, in a `.bin` of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..data.decode import Decoder, read_bytes
from ..data.source import Sample, open_source
from ..errors import DataError
from ..files import new_directory
from ..progress import Progress, silent
from ..spec import Preprocess

MARKER = ".modelport-prepared"  # in directories that were written here, which may therefore be replaced


def write_prepared(images: Path | str, output: Path | str, preprocess: Preprocess, progress: Progress = silent) -> int:
    """Prepare every image of a folder into `output/NAME.bin`, little-endian float32, channels x height x width.

    Returns:
        The number of images.

    Raises:
        DataError: no images, two of one name, or unreadable ones (counted, the first named); nothing is written then.
        OutputError: `output` holds something that was not written here.
    """
    source = open_source(images)
    decoder = Decoder(preprocess)

    def prepare(sample: Sample) -> str | None:
        array = np.empty(preprocess.input_size, np.float32)
        try:
            decoder(sample, read_bytes(sample.path), array)
        except DataError as error:
            return f"{sample.path}: {error}"
        (directory / f"{stem(sample.key)}.bin").write_bytes(array.astype("<f4", copy=False).tobytes())
        return None

    _refuse_shared_stems(source.samples)
    with new_directory(Path(output), marker=MARKER, force=True) as directory, ThreadPoolExecutor() as pool:
        problems = []
        for done, problem in enumerate(pool.map(prepare, source), start=1):
            problems += [problem] if problem else []
            progress("preprocess", done, len(source))
        if problems:
            raise DataError(
                f"{len(problems)} of {len(source)} images cannot be prepared, none was written; the first: {problems[0]}"
            )
        (directory / MARKER).touch()
    return len(source)


def stem(key: str) -> str:
    """An image's file name up to its extension: the name of its `.bin` and of its dump."""
    return Path(key).stem


def _refuse_shared_stems(samples: tuple[Sample, ...]) -> None:
    seen: dict[str, str] = {}
    for sample in samples:
        if (other := seen.setdefault(stem(sample.key), sample.key)) != sample.key:
            raise DataError(
                f"{other!r} and {sample.key!r} would both become {stem(sample.key)}.bin; the guide's files have no folders"
            )
