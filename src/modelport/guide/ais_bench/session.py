"""ais_bench's Python class over any offline model: its scripts run unchanged but for the import.

    from modelport.guide.ais_bench import InferSession     # was: from ais_bench.infer.interface import InferSession

    session = InferSession(0, "resnet50.om")
    scores = session.infer([batch])[0]

Offline models are static, have one input and one output; what ais_bench has for dynamic shapes is refused by name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ...errors import InferenceError
from ...offline import OfflineModel
from ..devices import open_on
from .tensor import TensorDesc, fit, show

logger = logging.getLogger(__name__)

_DYNAMIC = ("dymbatch", "dymhw", "dymdims", "dymshape")
_MAX_DEVICE = 255


@dataclass(frozen=True, slots=True)
class InferSummary:
    """When each inference began and ended, in milliseconds of one monotonic clock."""

    exec_time_list: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Durations:
    exec_time_list: list[float]


class InferSession:
    """An offline model opened as ais_bench opens one; the device comes first."""

    def __init__(
        self,
        device_id: int,
        model_path: str | Path | OfflineModel,
        acl_json_path: str | None = None,
        debug: bool = False,
        loop: int = 1,
    ) -> None:
        """Open a model.

        Args:
            device_id: 0 to 255. Engines of the processor have one device, which every number stands for.
            model_path: directory of the offline model.
            acl_json_path: passed over with a warning; there is no ACL to configure.
            debug: log the model's inputs and outputs.
            loop: times that each `infer` repeats the inference.

        Raises:
            TypeError: the arguments are those of another class, such as a path in first place.
            ModelportError: the model cannot be opened.
        """
        if isinstance(device_id, bool) or not isinstance(device_id, int | np.integer):
            raise TypeError(
                f"InferSession: device_id comes first and is a number, got {device_id!r}: "
                "write InferSession(0, model_path) (aclruntime.InferenceSession is the one that takes the path first)"
            )
        if not 0 <= device_id <= _MAX_DEVICE:
            raise ValueError(f"InferSession: device_id must be 0 to {_MAX_DEVICE}, got {device_id}")
        if not isinstance(model_path, str | Path | OfflineModel):
            raise TypeError(f"InferSession: model_path comes second and is a path, got {model_path!r}")
        if acl_json_path is not None:
            logger.warning("acl_json_path=%s is passed over: there is no ACL here to configure", acl_json_path)
        self.device_id, self.model_path, self.debug = int(device_id), model_path, debug
        self.set_loop_count(loop)
        self._times: list[tuple[float, float]] = []
        self.session = open_on(model_path, self.device_id)
        self.outputs_names = [self.session.output.name]
        if debug:
            logger.info("input: #0 %s", self.get_inputs()[0])
            logger.info("output: #0 %s", self.get_outputs()[0])

    def get_inputs(self) -> list[TensorDesc]:
        """The model's inputs: one."""
        return [TensorDesc.of(self.session.input)]

    def get_outputs(self) -> list[TensorDesc]:
        """The model's outputs: one."""
        return [TensorDesc.of(self.session.output)]

    def infer(
        self, feeds: Sequence[Any], mode: str = "static", custom_sizes: int | list[int] = 100000, out_array: bool = True
    ) -> list[np.ndarray]:
        """Run one batch, `loop` times.

        Args:
            feeds: one array (or torch tensor) per input: of the input's dtype and shape, or flat and of as many bytes.
            mode: `static`.
            custom_sizes: output sizes of dynamic models; without effect.
            out_array: without effect: outputs are in host memory, as arrays, either way.

        Returns:
            One array per output.

        Raises:
            InferenceError: another mode, another number of feeds, a feed that does not fit, or the engine failed.
        """
        self._require_static(mode)
        if not isinstance(feeds, Sequence) or len(feeds) != 1:
            got = f"{len(feeds)} feeds" if isinstance(feeds, Sequence) else f"a {type(feeds).__name__}"
            raise InferenceError(f"{self.session.where}: got {got}, expected a list of one array, for {self._named()}")
        batch = self._fitted(feeds[0])
        for _ in range(self.loop):
            start = perf_counter()
            scores = self.session.infer(batch)
            self._times.append((start * 1000, perf_counter() * 1000))
        return [scores]

    def run(self, feeds: Sequence[Any], out_array: bool = False) -> list[np.ndarray]:
        """Run one batch; ais_bench's name for `infer` without a mode."""
        return self.infer(feeds, out_array=out_array)

    def infer_pipeline(
        self, feeds_list: Iterable[Sequence[Any]], mode: str = "static", custom_sizes: int | list[int] = 100000
    ) -> list[list[np.ndarray]]:
        """Run several batches, one after the other; arguments as for `infer`."""
        return [self.infer(feeds, mode, custom_sizes) for feeds in feeds_list]

    def summary(self) -> InferSummary:
        """Start and end of every inference since the last reset."""
        return InferSummary(list(self._times))

    def sumary(self) -> _Durations:
        """`summary` as ais_bench spelled it before 2023: its `exec_time_list` holds durations in milliseconds."""
        return _Durations([end - start for start, end in self._times])

    def reset_summaryinfo(self) -> None:
        """Forget the times so far."""
        self._times.clear()

    reset_sumaryinfo = reset_summaryinfo

    def set_loop_count(self, loop: int) -> None:
        """How often each `infer` repeats the inference."""
        if loop < 1:
            raise ValueError(f"InferSession: loop must be at least 1, got {loop}")
        self.loop = loop

    def set_staticbatch(self) -> None:
        """Without effect: every offline model is static."""

    @staticmethod
    def convert_tensors_to_host(tensors: Iterable[np.ndarray]) -> None:
        """Without effect: outputs are in host memory already."""

    @staticmethod
    def convert_tensors_to_arrays(tensors: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Outputs as arrays, which they are already."""
        return list(tensors)

    def free_resource(self) -> None:
        """Close the session; `infer` fails from then on."""
        self.session.close()

    @staticmethod
    def finalize() -> None:
        """Without effect: there is no ACL to shut down."""

    def _named(self) -> str:
        tensor = self.session.input
        return f"{tensor.name!r} ({show(tensor.dtype, tensor.shape)}, {self.get_inputs()[0].realsize} bytes)"

    def _require_static(self, mode: str) -> None:
        if mode in _DYNAMIC:
            raise InferenceError(
                f"{self.session.where}: mode {mode!r}: is a static model, for {self._named()}; use 'static'"
            )
        if mode != "static":
            raise InferenceError(f"{self.session.where}: mode {mode!r}: there is no such mode; use 'static'")

    def _fitted(self, feed: Any) -> np.ndarray:
        array = feed.detach().cpu().numpy() if hasattr(feed, "detach") else feed
        if not isinstance(array, np.ndarray | np.generic):
            raise InferenceError(
                f"{self.session.where}: got a {type(feed).__name__}, expected an array for {self._named()}"
            )
        fitted = fit(np.asarray(array), np.dtype(self.session.input.dtype), self.session.input.shape)
        if fitted is None:
            got = f"{show(array.dtype, array.shape)}, {array.nbytes} bytes"
            raise InferenceError(f"{self.session.where}: got {got}, expected {self._named()}")
        return np.ascontiguousarray(fitted)
