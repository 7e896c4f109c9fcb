"""JPEG decoded on an NVIDIA GPU by nvJPEG, through torchvision. Its pixels differ a little from Pillow's: every run that uses it says
how much, and how many decisions that changes.

The threads that decode wait for the GPU together: what has come while it was busy is decoded in one call, since a call for a
single image leaves most of nvJPEG idle. So give it several times as many `--decoders` as there are cores.

On a GPU never run where it was written; there it was tested with torchvision's decoder on the processor, behind the same call.
"""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from ..errors import EngineUnavailableError, InferenceError
from ..spec import Preprocess
from .decode import Decoder
from .fast import FastDecoder

DEVICE = "cuda"
_FLAG = "--decode nvjpeg"
_END, _TAIL = b"\xff\xd9", 1024  # JPEG's marker of the end, and how much may follow it
_OF_THE_GPU = ("CUDA error", "out of memory", "CUDA driver")
_MOST_AT_ONCE = 128  # files in one call: decoded, they all lie in the GPU's memory


def require_nvjpeg() -> None:
    """Raise EngineUnavailableError where there is no torchvision, or no GPU that PyTorch can use."""
    try:
        import torch
        import torchvision.io  # noqa: F401 - it is needed where images are decoded
    except ImportError as error:
        raise EngineUnavailableError(
            f"{_FLAG} decodes with torchvision, which cannot be imported ({error}): pip install 'modelport[export]'"
        ) from error
    try:
        torch.empty(0, device=DEVICE)
    except (RuntimeError, AssertionError) as error:
        said = str(error).strip().splitlines()[0]
        raise EngineUnavailableError(
            f"{_FLAG} needs an NVIDIA GPU that PyTorch can use ({said}); leave it out to decode on the processor"
        ) from error


class GpuJpeg:
    """Decodes JPEG files, those of several threads in one call."""

    def __init__(self) -> None:
        require_nvjpeg()
        self._waiting: list[tuple[bytes, str, Future]] = []
        self._queue, self._gpu = Lock(), Lock()

    def __call__(self, data: bytes, mode: str) -> np.ndarray | None:
        """uint8, height x width (x 3 for RGB), in the mode L or RGB; None for a file that nvJPEG does not take.

        Raises:
            InferenceError: the GPU failed.
        """
        answer: Future = Future()
        with self._queue:
            self._waiting.append((data, mode, answer))
        with self._gpu:  # whoever gets in takes along what has come meanwhile, and those find it done
            while not answer.done():
                with self._queue:
                    group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
                self._answer(group)
        return answer.result()

    def _answer(self, group: list[tuple[bytes, str, Future]]) -> None:
        try:
            self._decode(group)
        except BaseException as error:  # nobody may wait for an answer that does not come
            for _, _, answer in group:
                if not answer.done():
                    answer.set_exception(error)

    def _decode(self, group: list[tuple[bytes, str, Future]]) -> None:
        for mode in {mode for _, mode, _ in group}:
            chosen = [(data, answer) for data, wanted, answer in group if wanted == mode]
            try:
                images = decode_all([data for data, _ in chosen], mode)
            except RuntimeError:  # one of them is not for nvJPEG, and it does not say which
                images = [_alone(data, mode) for data, _ in chosen]
            for (_, answer), image in zip(chosen, images, strict=True):
                answer.set_result(image)


def decode_all(files: list[bytes], mode: str) -> list[np.ndarray | None]:
    """Decode files in one call; raises RuntimeError where one of them is not taken."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    wanted = ImageReadMode.GRAY if mode == "L" else ImageReadMode.RGB
    tensors: Any = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    images = decode_jpeg(tensors, mode=wanted, device=DEVICE)
    found = [image.permute(1, 2, 0).contiguous().cpu().numpy() for image in images]
    return [image[:, :, 0] if mode == "L" else image for image in found]


def _alone(data: bytes, mode: str) -> np.ndarray | None:
    """One image; None where nvJPEG does not take it."""
    try:
        return decode_all([data], mode)[0]
    except RuntimeError as error:
        if any(
            sign in str(error) for sign in _OF_THE_GPU
        ):  # no fault of the file: Pillow would take over without a word
            raise InferenceError(f"decoding on the GPU failed: {str(error).strip().splitlines()[0]}") from error
        return None


class GpuDecoder(Decoder):
    """A Decoder that has JPEG decoded on a GPU. What that does not take, Pillow decodes or says what is wrong with it."""

    on_cores = False

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__(preprocess)
        self._jpeg = GpuJpeg()

    def _decode(self, image: Image.Image, data: bytes) -> Image.Image:
        # CMYK has no one meaning; and of a file that was cut off nvJPEG need not complain, Pillow does.
        if image.format == "JPEG" and image.mode in ("L", "RGB") and _END in data[-_TAIL:]:
            pixels = self._jpeg(data, self._mode)
            if pixels is not None and pixels.shape[:2] == (image.height, image.width):
                return Image.fromarray(pixels)
        return super()._decode(image, data)


class FastGpuDecoder(GpuDecoder, FastDecoder):
    """The same with the crop fused into the resize."""
