"""A network with random weights, which do not change speed: exported, quantised, and compiled as contestants ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from photographs import folder

from modelport.engines import load, open_model
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.engines.session import Session, SessionOptions
from modelport.exporter import ExportOptions, export
from modelport.exporter.export import load_network
from modelport.host import usable_cores
from modelport.offline import OfflineModel
from modelport.quantize import QuantizeOptions, quantize
from modelport.spec import Precision, Preprocess

NETWORK, TINY = "cspresnext50", "test_resnet"  # the second, timm's smallest, for smoke runs
GFLOP_AT_224 = {NETWORK: 6.15, TINY: 0.40}  # an image, a multiply-add counted as two


@dataclass(frozen=True, slots=True)
class Configuration:
    """What can be chosen of a compiled model."""

    engine: str
    precision: Precision
    input: str = "float32"
    streams: int = 1

    @property
    def name(self) -> str:
        """For the tables."""
        streams = f", {self.streams} streams" if self.streams > 1 else ""
        return f"modelport {self.engine} {self.precision}{' uint8' if self.input == 'uint8' else ''}{streams}"


class Models:
    """Everything that the contestants run, made once in a directory."""

    def __init__(self, directory: Path, *, size: int = 224, calibration: int = 32, arch: str = NETWORK) -> None:
        self.directory, self.size = directory, size
        self.job = ExportOptions(arch=arch, preprocess=Preprocess(input_size=(3, size, size), crop_pct=0.875))
        self.onnx = directory / "model.onnx"
        if not self.onnx.exists():
            export(self.job, self.onnx)
        self.calibration = folder(directory / "calibration", calibration, seed=1)
        self._samples = calibration

    @property
    def preprocess(self) -> Preprocess:
        """How its images are prepared."""
        return self.job.preprocess

    @property
    def gflop(self) -> float:
        """Of one image; convolutions go with the area."""
        return GFLOP_AT_224[self.job.arch] * (self.size / 224) ** 2

    def network(self) -> Any:
        """The PyTorch module, in evaluation mode."""
        return load_network(self.job)[0]

    def compiled(self, wanted: Configuration, batch: int) -> OfflineModel:
        """An offline model, compiled when it is first asked for."""
        path = self.directory / f"{wanted.engine}-{wanted.precision}-{wanted.input}-{batch}"
        if not path.exists():
            onnx = self._int8(wanted.engine) if wanted.precision is Precision.INT8 else self.onnx
            options = CompileOptions(precision=wanted.precision, batch_size=batch, input_dtype=wanted.input)
            compile_model(onnx, path, engine=wanted.engine, options=options)
        return OfflineModel.load(path)

    def open(self, wanted: Configuration, batch: int) -> Session:
        """A session with these streams; several share the cores, one thread each where there are as many."""
        cores = usable_cores()
        options = SessionOptions(streams=wanted.streams, threads=cores)
        return open_model(self.compiled(wanted, batch), options)

    def _int8(self, engine: str) -> Path:
        tool = load(engine).quantizer
        path = self.directory / f"int8-{tool}.onnx"
        if not path.exists():
            quantize(self.onnx, self.calibration, path, options=QuantizeOptions(tool=tool, samples=self._samples))
        return path
