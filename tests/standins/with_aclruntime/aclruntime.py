"""A stand-in for the documented part of msit's binding `aclruntime`."""

import ctypes
from types import SimpleNamespace

import numpy as np
from fake_om import Model, check_types


class session_options:
    """log_level, loop, acl_json_path."""

    log_level, loop, acl_json_path = 2, 1, ""


class BaseTensor:
    """Address and length of host memory."""

    def __init__(self, buf, size):
        if type(buf) is not int or type(size) is not int:
            raise TypeError("BaseTensor(buf: int, size: int)")
        self.buf, self.size = buf, size


class _DeviceTensor:
    def __init__(self, values):
        self._values, self._on_host = values, False

    def to_host(self):
        self._on_host = True

    def __array__(self, dtype=None, copy=None):
        if not self._on_host:
            raise RuntimeError("[-1] the tensor is in device memory")
        return np.array(self._values, dtype=dtype)


class InferenceSession:
    """Model first, then the device."""

    def __init__(self, model_path, device_id, options):
        check_types(device_id, model_path)
        if not isinstance(options, session_options):
            raise TypeError("options must be session_options")
        self._model = Model(model_path, device_id)

    def get_outputs(self):
        """Descriptions of the outputs."""
        return [SimpleNamespace(name=name) for name in self._model.header["outputs"]]

    def run(self, output_names, feeds):
        """Device tensors for a list of BaseTensor."""
        if output_names != self._model.header["outputs"] or not all(isinstance(feed, BaseTensor) for feed in feeds):
            raise TypeError("run(output_names: list[str], feeds: list[BaseTensor])")
        return [_DeviceTensor(self._model.run(ctypes.string_at(feeds[0].buf, feeds[0].size)))]
