"""The offline models of a search, each compiled once, when it is first needed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files
from ..engines import load
from ..engines.base import Engine
from ..errors import FormatError, ModelportError
from ..graph import ClassifierGraph
from ..graph.quantized import is_quantized
from ..offline import OfflineModel
from ..results import Configuration, SweepSubject
from ..spec import ModelSpec, Precision
from .trial import FailedWorkError, compile_apart, compile_options, quantize_apart

if TYPE_CHECKING:
    from ..exporter.program import TorchWeights

MODELS_DIRECTORY, QUANTIZED_DIRECTORY = "models", "quantized"
log = logging.getLogger("modelport")


class ModelStore:
    """Offline models in one directory, by configuration; and the quantised ONNX files that int8 ones come from."""

    def __init__(
        self,
        home: Path,
        graph: ClassifierGraph,
        subject: SweepSubject,
        calibration: Path | str | None,
        weights: TorchWeights | None = None,
    ) -> None:
        """What a search that was killed left half-made is removed.

        Args:
            home: the search's directory.
            graph: the classifier.
            subject: what it is, and the time-out of compilations.
            calibration: images for int8; None refuses int8 of a file that is not quantised.
            weights: where the network lies in PyTorch; None refuses engines that compile that.
        """
        self.graph, self.subject = graph, subject
        self._models, self._quantized = home / MODELS_DIRECTORY, home / QUANTIZED_DIRECTORY
        self._calibration, self._weights = calibration, weights
        self._known: dict[str, Path | FailedWorkError] = {}
        for path in self._models.glob(".*.tmp"):
            shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def clear(home: Path) -> None:
        """Throw away what an earlier search of something else compiled."""
        for name in (MODELS_DIRECTORY, QUANTIZED_DIRECTORY):
            shutil.rmtree(home / name, ignore_errors=True)

    def get(self, configuration: Configuration) -> Path:
        """Directory of the configuration's offline model.

        Raises:
            FailedWorkError: it could not be compiled; said again for every configuration that needs it.
        """
        return self._once(configuration.model, lambda: self._compiled(configuration))

    def _once(self, name: str, make: Callable[[], Path]) -> Path:
        if name not in self._known:
            try:
                self._known[name] = make()
            except FailedWorkError as error:
                self._known[name] = error
        found = self._known[name]
        if isinstance(found, FailedWorkError):
            raise FailedWorkError(found.outcome, found.reason)
        return found

    def _compiled(self, configuration: Configuration) -> Path:
        path, spec = self._models / configuration.model, self._spec(configuration)
        self._require_offered(configuration)
        onnx = self._source(configuration, spec)
        if not _is_model(path, spec, files.digest(onnx)):
            log.info("compiling %s", configuration.model)
            timeout = self.subject.settings.compile_timeout_s
            compile_apart(onnx, spec, configuration, path, timeout, self._weights)
        return path

    def _require_offered(self, configuration: Configuration) -> None:
        """Refuse here what needs no child process to be refused."""
        try:
            Engine.resolve(
                load(configuration.engine), compile_options(configuration)
            )  # the base's check; an engine's own may ask its device
            self.graph.require_batch(configuration.batch_size)
        except ModelportError as error:
            raise FailedWorkError("refused", str(error)) from error

    def _source(self, configuration: Configuration, spec: ModelSpec) -> Path:
        """The ONNX file to compile."""
        if configuration.precision is not Precision.INT8 or self._calibration is None or is_quantized(self.graph.path):
            return self.graph.path
        tool, images = load(configuration.engine).quantizer, self._calibration
        suffix = f"-{configuration.resolution}px" if configuration.resolution else ""
        path = self._quantized / f"{tool}{suffix}.onnx"

        def make() -> Path:
            if not path.exists():  # it appears whole, and a change of the model or the images clears the directory
                quantize_apart(
                    self.graph.path,
                    spec,
                    images=images,
                    tool=tool,
                    output=path,
                    timeout=self.subject.settings.compile_timeout_s,
                )
            return path

        return self._once(path.name, make)

    def _spec(self, configuration: Configuration) -> ModelSpec:
        model = self.subject.model
        if configuration.resolution is None:
            return model
        size = (model.preprocess.input_size[0], configuration.resolution, configuration.resolution)
        return model.model_copy(update={"preprocess": model.preprocess.model_copy(update={"input_size": size})})


def _is_model(path: Path, spec: ModelSpec, onnx_sha256: str) -> bool:
    try:
        manifest = OfflineModel.load(path).manifest
    except FormatError:
        return False
    return (manifest.model, manifest.onnx_sha256) == (spec, onnx_sha256)
