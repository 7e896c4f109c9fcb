"""What the stand-ins of atc, ais_bench and aclruntime share: the fake .om file, and computing it in float16's precision.

STANDIN_DEVICES: how many devices there are (4). STANDIN_LOG: file that gets a line `device process` for each batch.
STANDIN_CRASH: die in the first batch, as a crash of native code does.
"""

from __future__ import annotations

import json
import os
import signal
import struct
from pathlib import Path

import numpy as np

MAGIC = b"FAKE-OM\0"


def write(path: Path, header: dict, graph: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(MAGIC + struct.pack("<I", len(text)) + text + graph)


def aipp(pixels: np.ndarray, config: dict[str, str]) -> np.ndarray:
    """AIPP by the configuration's text, written apart from modelport's."""
    if config["rbuv_swap_switch"] == "true":
        pixels = pixels[..., [2, 1, 0]]
    planes = []
    for channel in range(pixels.shape[-1]):
        mean, low, factor = (float(config[f"{key}_{channel}"]) for key in ("mean_chn", "min_chn", "var_reci_chn"))
        planes.append((pixels[..., channel].astype(np.float64) - mean - low) * factor)
    return np.stack(planes, axis=1)


class Model:
    """A loaded fake .om file."""

    def __init__(self, path: str, device: int) -> None:
        import onnxruntime

        if device >= int(os.environ.get("STANDIN_DEVICES", "4")):
            raise RuntimeError(f"[-1][ACL: general failure] aclrtSetDevice failed, deviceId:{device}")
        data = Path(path).read_bytes()
        if not data.startswith(MAGIC):
            raise RuntimeError("[-1][ACL: general failure] load model from file failed, model file is damaged")
        length = struct.unpack_from("<I", data, len(MAGIC))[0]
        start = len(MAGIC) + 4
        self.header = json.loads(data[start : start + length])
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level, settings.intra_op_num_threads = 3, 1
        self._session = onnxruntime.InferenceSession(data[start + length :], settings)
        self.device = device
        print("a runtime that talks on stdout", flush=True)

    def run(self, data: bytes) -> np.ndarray:
        if "STANDIN_CRASH" in os.environ:
            os.kill(os.getpid(), signal.SIGSEGV)
        batch, channels, height, width = self.header["shape"]
        dtype = np.uint8 if self.header["aipp"] else np.float32
        if len(data) != np.dtype(dtype).itemsize * batch * channels * height * width:
            raise RuntimeError(f"[1001][Invalid params] input size {len(data)} does not match the model's")
        if self.header["aipp"]:
            values = aipp(np.frombuffer(data, dtype).reshape(batch, height, width, channels), self.header["aipp"])
        else:
            values = np.frombuffer(data, dtype).reshape(self.header["shape"])
        feed = {self._session.get_inputs()[0].name: values.astype(np.float16).astype(np.float32)}
        if log := os.environ.get("STANDIN_LOG"):
            with open(log, "a") as file:
                file.write(f"{self.device} {os.getpid()}\n")
        return self._session.run(None, feed)[0].astype(np.float16).astype(np.float32)


def check_types(device: object, path: object) -> None:
    """As the native binding does: a wrong order of arguments is a TypeError."""
    if type(device) is not int or not isinstance(path, str):
        raise TypeError(f"incompatible constructor arguments: device {device!r}, model {path!r}")
