"""One side of a comparison: a graph that an engine runs, or a network in PyTorch, whose tensors can be looked at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ..engines.base import Engine
from ..engines.session import SessionOptions
from ..errors import DataError
from ..offline import OfflineModel
from ..results.diff import Side
from ..spec import ModelSpec, Precision
from .inputs import Batch
from .network import Network, Shape

PLAIN_ENGINE = "onnxruntime"
_EMULATION = "emulation:fp16"
_LOOK_UP = 3  # folders above an offline model in which its ONNX file is looked for: `run` puts it two above
if TYPE_CHECKING:
    from ..exporter.taps import TorchTaps

Look = Callable[[Batch], dict[str, np.ndarray]]  # a batch's tensors by name
Scores = Callable[[Batch], np.ndarray]


class Stage(ABC):
    """One side of a comparison.

    Attributes:
        side: how it is reported.
        spec: the model's facts.
        shapes: of the tensors that can be looked at, in order.
        network: its graph; None where it has none.
        batch: the batch size that it must run at; None where any will do.
        fuses: whether operators that engines fuse are looked at as one: looking between them would change how an engine
            computes, and they are quantised together.
    """

    side: Side
    spec: ModelSpec
    shapes: dict[str, Shape | None]
    network: Network | None
    batch: int | None
    fuses: bool

    @abstractmethod
    def look(self, names: Iterable[str], batch: int) -> Look:
        """Compile with these tensors as outputs; the function runs one batch and returns them and the scores."""

    def untapped(self) -> AbstractContextManager[Scores | None]:
        """The model as it runs without taps, where that may compute otherwise; else None."""
        return nullcontext()


@dataclass(frozen=True, kw_only=True)
class OnnxStage(Stage):
    """A graph that an engine runs."""

    side: Side
    spec: ModelSpec
    network: Network
    engine: Engine
    precision: Precision
    plain: bool
    batch: int | None
    model: OfflineModel | None
    folder: Path
    pixels: bool = False
    shapes: dict[str, Shape | None] = field(init=False)
    fuses: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", self.network.shapes)
        object.__setattr__(self, "fuses", not self.plain or self.side.precision == "int8")

    def look(self, names: Iterable[str], batch: int) -> Look:
        size = self.batch or batch
        path = self.folder / "tapped.onnx"
        onnx.save(self.network.tapped(names, size), path)
        try:
            taps = self.engine.tap(path, self.precision, plain=self.plain)
        finally:
            path.unlink()

        def run(images: Batch) -> dict[str, np.ndarray]:
            parts = [taps({self.network.input: self._feed(part)}) for part in images.parts(size)]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

        return run

    @contextmanager
    def untapped(self) -> Iterator[Scores | None]:
        if self.model is None:
            yield None
            return
        with self.engine.open(self.model, SessionOptions()) as session:
            yield lambda images: np.concatenate(
                [session.infer(self._feed(part)) for part in images.parts(session.batch_size)]
            )

    def _feed(self, images: Batch) -> np.ndarray:
        if not self.pixels:
            return images.floats
        if images.pixels is None:
            raise DataError(
                f"{self.side.name}: takes uint8 pixels, and these images are preprocessed float32 data: give images"
            )
        return images.pixels


@dataclass(frozen=True, kw_only=True)
class TorchStage(Stage):
    """A checkpoint in PyTorch, whose tensors go by the names in an ONNX file that was exported from it."""

    side: Side
    spec: ModelSpec
    taps: TorchTaps
    output: str
    network: None = None
    batch: None = None
    fuses: bool = False
    shapes: dict[str, Shape | None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", dict(self.taps.shapes))

    def look(self, names: Iterable[str], batch: int) -> Look:
        wanted = [name for name in names if name != self.output]

        def run(images: Batch) -> dict[str, np.ndarray]:
            found, scores = self.taps.run(images.floats, wanted)
            return found | {self.output: scores}

        return run
