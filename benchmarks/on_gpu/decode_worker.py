"""JPEG files in memory to uint8 pixels in a shared buffer. A process of its own for each core, without torch: it starts at once."""

from __future__ import annotations

import io
from multiprocessing import shared_memory

import numpy as np
from PIL import Image

CROP = 0.875
_state: dict = {}


def start(files: list[bytes], name: str, shape: tuple[int, ...]) -> None:
    """In each process: the files, and the shared memory of slots x batch x height x width x 3 that pixels go to."""
    memory = shared_memory.SharedMemory(name=name)
    _state.update(files=files, memory=memory, slots=np.ndarray(shape, np.uint8, memory.buf))


def fill(slot: int, first: int, row: int, count: int) -> None:
    """Decode `count` files from number `first` on (they repeat) into rows of a slot."""
    fill_rows(_state["files"], _state["slots"][slot], first, row, count)


def fill_rows(files: list[bytes], slot: np.ndarray, first: int, row: int, count: int) -> None:
    """The same in this process; threads may call it, since Pillow lets the lock go."""
    for number in range(count):
        slot[row + number] = pixels(files[(first + number) % len(files)], slot.shape[1])


def pixels(data: bytes, size: int) -> np.ndarray:
    """Decode, resize the shorter side to size ÷ 0.875, crop the middle: height x width x 3."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    side = int(size / CROP)
    scale = side / min(width, height)
    width, height = max(side, int(width * scale)), max(side, int(height * scale))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))
