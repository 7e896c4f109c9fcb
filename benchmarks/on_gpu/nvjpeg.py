"""JPEG decoded, resized and cropped on the GPU, by torchvision and PyTorch, and how far its pixels are from the processor's."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from . import decode_worker


class GpuDecoder:
    """Files of one size to uint8 pixels on the device: N x size x size x 3."""

    def __init__(self, device: str, size: int):
        """On a processor it decodes with torchvision there, which is the same code around another decoder."""
        from torchvision.io import ImageReadMode, decode_jpeg

        self._decode, self._mode = decode_jpeg, ImageReadMode.RGB
        self._device, self._size = torch.device(device), size

    def __call__(self, files: list[Tensor]) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # later versions point to TorchCodec
            images = torch.stack(self._decode(files, mode=self._mode, device=self._device))
        height, width = images.shape[2:]
        side = int(self._size / decode_worker.CROP)
        scale = side / min(height, width)
        height, width = max(side, int(height * scale)), max(side, int(width * scale))
        resized = interpolate(images.float(), (height, width), mode="bilinear", antialias=True, align_corners=False)
        top, left = round((height - self._size) / 2), round((width - self._size) / 2)
        part = resized[:, :, top : top + self._size, left : left + self._size]
        return part.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def as_tensors(files: list[bytes]) -> list[Tensor]:
    """As torchvision takes them."""
    return [torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for data in files]


def differences(
    decoder: GpuDecoder, files: list[bytes], size: int, run: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Any]:
    """Its pixels held against Pillow's, and the decisions that change, by whoever runs a batch of pixels.

    As many files as the batch has are taken.
    """
    ours = decoder(as_tensors(files)).cpu().numpy()
    theirs = np.stack([decode_worker.pixels(data, size) for data in files])
    distance = np.abs(ours.astype(np.int16) - theirs)
    changed = int((run(ours).argmax(1) != run(theirs).argmax(1)).sum())
    return {
        "images": len(files),
        "largest_difference": int(distance.max()),
        "mean_difference": float(distance.mean()),
        "differing_share": float((distance > 0).mean()),
        "changed_decisions": changed,
    }


def only_decode(decoder: GpuDecoder, files: list[Tensor], batch: int, seconds: float) -> float:
    """Images a second with nobody waiting for them."""
    chosen = [files[number % len(files)] for number in range(batch)]
    decoder(chosen)
    _wait()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds or not done:
        decoder(chosen)
        done += 1
    _wait()
    return done * batch / (time.perf_counter() - start)


def feed(runner: Any, decoder: GpuDecoder, files: list[Tensor], *, seconds: float) -> dict[str, float]:
    """Decode a batch in another thread while one is computed; the pixels never leave the device."""
    batch = runner.facts.shape[0]
    chosen = [files[number % len(files)] for number in range(batch)]

    def decode() -> Tensor:
        with torch.no_grad():
            if stream is None:
                return decoder(chosen)
            with torch.cuda.stream(stream):
                pixels = decoder(chosen)
            stream.synchronize()  # in this thread: no more than one batch is ahead
            return pixels

    stream = torch.cuda.Stream() if runner.facts.device == "cuda" else None
    begun: deque[Any] = deque()
    waited, done = 0.0, 0
    with ThreadPoolExecutor(1) as pool:
        pool.submit(decode).result()
        ahead, start = pool.submit(decode), time.perf_counter()
        while time.perf_counter() - start < seconds or not done:
            since = time.perf_counter()
            pixels = ahead.result()
            waited += time.perf_counter() - since
            ahead = pool.submit(decode)
            runner.load(pixels)
            runner.replay()
            done += 1
            if stream is not None:
                begun.append(runner.stream.record_event())
                if len(begun) > 2:  # no more batches on their way than that
                    begun.popleft().synchronize()
        runner.synchronize()
        took = time.perf_counter() - start
    return {"images_per_s": done * batch / took, "share_filling": waited / took, "batches": done}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
