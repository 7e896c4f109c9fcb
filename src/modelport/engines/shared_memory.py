"""Memory that this process and its children map: batches go through it instead of being sent."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import IO

import numpy as np

from ..offline import TensorSpec

_PAGE = mmap.PAGESIZE


def shared_file(size: int) -> IO[bytes]:
    """A file in memory without a name, to be handed to children by its number; it goes with the last process that has it open.

    Not in /dev/shm: a container may have very little of that, and writing to what is not there ends a process by SIGBUS.
    """
    linux = hasattr(os, "memfd_create")
    file = os.fdopen(os.memfd_create("modelport"), "r+b") if linux else tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(size)
    return file


def slot_bytes(tensors: tuple[TensorSpec, TensorSpec]) -> int:
    """Room for one batch and its scores."""
    return sum(map(_room, tensors))


def map_slots(handle: int, tensors: tuple[TensorSpec, TensorSpec], count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each slot's batch and scores, of an open shared file; both sides see the same."""
    memory = mmap.mmap(handle, count * slot_bytes(tensors))
    slots, start = [], 0
    for _ in range(count):
        pair = []
        for tensor in tensors:
            pair.append(np.ndarray(tensor.shape, tensor.dtype, buffer=memory, offset=start))
            start += _room(tensor)
        slots.append((pair[0], pair[1]))
    return slots


def _room(tensor: TensorSpec) -> int:
    size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
    return size + -size % _PAGE  # a runtime may read it in place, and wants it aligned
