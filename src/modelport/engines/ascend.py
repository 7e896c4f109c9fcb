"""Huawei Ascend NPUs through CANN. The offline model is atc's .om file, its command line and its log.

Never run on a device here: tested against stand-ins that hold to the documented interfaces.

Every device has a process of its own (`ascend_worker.py`). aclruntime's binding holds Python's lock while the chip
computes, so threads of one process would take turns, and the threads that decode images would stand still meanwhile;
ais_bench itself goes through processes where it uses several devices.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from ..errors import CompileError
from ..graph import ClassifierGraph
from ..graph.aipp import Aipp
from ..offline import OfflineModel
from ..spec import ModelSpec, Precision
from . import atc
from .ascend_device import Device, ask_soc
from .base import UNKNOWN_VERSION, Compiled, CompileOptions, Engine, Plan
from .session import Session, SessionOptions

_OM, _COMMAND, _LOG = "model.om", "atc.txt", "atc.log"
_logger = logging.getLogger(__name__)


class AscendEngine(Engine):
    """atc compiles; ais_bench or aclruntime runs."""

    name = "ascend"
    title = "Ascend CANN"
    extra = None  # Huawei's packages are not on PyPI
    precisions = (Precision.FP16,)
    portable = True  # over host processors; the chip is in the manifest's `device`
    accelerator = True

    def version(self) -> str:
        atc.require()
        return atc.cann_version() or UNKNOWN_VERSION

    def running_version(self) -> str:
        return atc.cann_version() or UNKNOWN_VERSION  # a machine that only runs models has no atc

    def resolve(self, options: CompileOptions) -> CompileOptions:
        options = super().resolve(options)
        soc = options.soc_version or ask_soc()
        if not soc:
            raise CompileError(
                "Ascend CANN compiles for one chip and none could be asked here: pass --soc-version, such as Ascend310 "
                "(`npu-smi info` names it)"
            )
        if options.log not in atc.LOG_LEVELS:
            raise CompileError(f"atc has no log level {options.log!r}; it has {', '.join(atc.LOG_LEVELS)}")
        return replace(options, soc_version=soc)

    def plan(self, graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions) -> Plan:
        job = _job(graph, spec, options)
        return Plan(command=job.command(), files=job.files)

    def compile_into(
        self, directory: Path, graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions
    ) -> Compiled:
        job = _job(graph, spec, options)
        with tempfile.TemporaryDirectory(prefix="modelport-atc-") as folder:
            log, made = atc.run(job, Path(folder))
            shutil.move(made, directory / _OM)
        texts = {_COMMAND: shlex.join(job.command()) + "\n", _LOG: log, **job.files}
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")
        return Compiled(files=(_OM, *texts), executed=Precision.FP16, uint8_input=options.aipp)

    def _open(self, model: OfflineModel, options: SessionOptions) -> Session:
        devices: list[Device] = []
        try:
            for _ in range(options.streams):
                devices.append(Device(options.devices[0], model.file(_OM), model.manifest.input))
            for device in devices:  # all load at once
                device.wait_until_ready(model)
        except BaseException:
            for device in devices:
                device.close()
            raise
        _logger.debug("%s: opened by %s on device %s", model.path, devices[0].runtime, options.devices[0])
        return AscendSession(model, devices)


class AscendSession(Session):
    """A device, by one process for each stream, handed out to the calling threads."""

    def __init__(self, model: OfflineModel, devices: list[Device]) -> None:
        super().__init__(str(model.path), model.tensors, len(devices))
        self._devices = devices
        self._free: SimpleQueue[Device] = SimpleQueue()
        for device in devices:
            self._free.put(device)

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        device = self._free.get()
        try:
            return device.infer(batch, self.where)
        finally:
            self._free.put(device)

    def close(self) -> None:
        super().close()
        for device in self._devices:
            device.close()


def _job(graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions) -> atc.AtcJob:
    if options.soc_version is None:
        raise CompileError("Ascend CANN: the chip to compile for is unknown; pass --soc-version")
    return atc.AtcJob(
        model=graph.path.resolve(),
        input_name=graph.input_name,
        shape=(options.batch_size, *spec.preprocess.input_size),
        soc_version=options.soc_version,
        aipp=Aipp.of(spec.preprocess).config() if options.aipp else None,
        log=options.log,
    )
