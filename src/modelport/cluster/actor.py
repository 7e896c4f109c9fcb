"""The far side: what runs in an actor on some node. It decodes there, and writes the part where it sees the driver's directory."""

from __future__ import annotations

import os
import platform
import socket
import tempfile
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from .. import files
from ..data.decode import Decoder
from ..data.decoders import make_decoder
from ..data.parts import write_part
from ..data.predictions import schema
from ..engines import open_model
from ..engines.session import Session
from ..errors import InferenceError, ModelportError
from ..host import environment
from ..offline import MANIFEST, OfflineModel
from ..pipeline import Pipeline
from .shards import Assignment, Outcome, Shard

OUTCOME, PART, PROCESSOR = "outcome", "part", "processor"
COLUMNS = pa.schema([(OUTCOME, pa.string()), (PART, pa.binary())])
# Packages that decide what a prediction is; the engine checks its own against the model's manifest.
_DECIDING = ("numpy", "pillow", "simplejpeg", "openvino", "onnxruntime")


def about() -> dict[str, str]:
    """What predictions depend on besides the model: versions that have to be the same on every node, and the processor."""
    here = environment()
    packages = {name: here.packages.get(name, "none") for name in _DECIDING}
    return {"modelport": here.modelport, "python": platform.python_version(), **packages, PROCESSOR: here.cpu}


class ShardRunner:
    """Runs shards through a session of its own, which it opens with the first."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._name = f"{socket.gethostname()} pid {os.getpid()}"

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Run the packed shards of a table; errors travel as outcomes, since the driver has to tell them in one line."""
        done = [self._outcome(Shard.unpack(data)) for data in rows["shard"].to_pylist()]
        columns = [[outcome.model_dump_json() for outcome, _ in done], [part for _, part in done]]
        return pa.table(columns, schema=COLUMNS)

    def _outcome(self, shard: Shard) -> tuple[Outcome, bytes | None]:
        try:
            return self._run(shard)
        except ModelportError as error:
            told = f"{error} (on {self._name})"
            return Outcome(
                start=shard.start, images=0, actor=self._name, error=type(error).__name__, message=told
            ), None

    def _run(self, shard: Shard) -> tuple[Outcome, bytes | None]:
        assignment = self._assignment
        options = replace(assignment.pipeline, contents=True)
        before = self._session.restarts
        pipeline = Pipeline(self._session, self._decoder, options)
        rows = list(pipeline.run(shard.source))
        path, columns = assignment.part(shard.start, len(rows)), self._columns
        part = None
        if assignment.proof.is_file():
            digest = write_part(path, rows, columns)
        else:
            with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
                digest = write_part(Path(folder) / path.name, rows, columns)
                part = (Path(folder) / path.name).read_bytes()
        outcome = Outcome(
            start=shard.start,
            images=len(rows),
            actor=self._name,
            sha256=digest,
            stages=pipeline.stages,
            devices=pipeline.devices,
            restarts=None if before is None else self._session.restarts - before,
        )
        return outcome, part

    @cached_property
    def _model(self) -> OfflineModel:
        model = OfflineModel.load(self._assignment.model)
        if files.digest(model.path / MANIFEST) != self._assignment.digest:
            raise InferenceError(
                f"{model.path}: is another model here than on the driver; put the same one on every node"
            )
        return model

    @cached_property
    def _session(self) -> Session:
        return open_model(self._model, self._assignment.session)

    @cached_property
    def _decoder(self) -> Decoder:
        return make_decoder(self._model.manifest.model.preprocess, self._assignment.preprocessing)

    @cached_property
    def _columns(self) -> pa.Schema:
        return schema(self._model.manifest.model.num_classes, all_scores=self._assignment.pipeline.keep_scores)
