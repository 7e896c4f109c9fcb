"""A stand-in for ais_bench's documented `InferSession`."""

import numpy as np
from fake_om import Model, check_types


class InferSession:
    """Device first, then the model."""

    def __init__(self, device_id, model_path, acl_json_path=None, debug=False, loop=1):
        check_types(device_id, model_path)
        self._model = Model(model_path, device_id)

    def infer(self, feeds, mode="static", custom_sizes=100000, out_array=True):
        """A list of arrays for a list of arrays; an input that is not contiguous is read as it lies in memory."""
        if mode != "static" or not isinstance(feeds, list):
            raise RuntimeError(f"wrong infer_mode:{mode}")
        for feed in feeds:
            if type(feed) is not np.ndarray:
                raise RuntimeError(f"type:{type(feed)} invalid")
        return [self._model.run(feeds[0].tobytes())]

    def free_resource(self):
        """Give the device back."""
        self._model = None
