"""atc's flags on whatever engine there is."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..engines import load
from ..engines.base import CompileOptions
from ..engines.compiler import compile_model
from ..errors import CompileError
from ..graph import ClassifierGraph, read_classifier
from ..offline import OfflineModel
from ..spec import Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class AtcFlags:
    """The flags that the guide uses."""

    model: Path
    input_shape: str
    output: Path
    soc_version: str
    log_level: str = "null"


def compile_like_atc(flags: AtcFlags, *, engine: str, precision: str | None = None) -> OfflineModel:
    """Compile `flags.model` into `flags.output` + `.om`, replacing an offline model there.

    Args:
        flags: as on atc's command line.
        engine: which engine compiles.
        precision: None takes the engine's first.

    Raises:
        CompileError: --input_shape does not fit the file, or the engine refuses.
        FormatError: the file is no image classifier.
    """
    graph = read_classifier(flags.model)
    batch = _batch_size(flags.input_shape, graph)
    chosen = load(engine)
    options = CompileOptions(precision=Precision(precision) if precision else chosen.precisions[0], batch_size=batch)
    if chosen.accelerator:
        options = replace(options, soc_version=flags.soc_version, log=flags.log_level)
    output = flags.output.with_name(flags.output.name + ".om")
    return compile_model(flags.model, output, engine=engine, options=options, force=True)


def _batch_size(text: str, graph: ClassifierGraph) -> int:
    """N of `name:N,C,H,W`, after checking the rest against the file."""
    match = re.fullmatch(r"(.+):(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", text)
    if not match:
        raise CompileError(f"--input_shape={text!r}: expected name:N,C,H,W such as image:1,3,224,224")
    name, batch, *size = match[1], *map(int, match.groups()[1:])
    if name != graph.input_name:
        raise CompileError(
            f"--input_shape={text!r}: {graph.path} has no input {name!r}, its input is {graph.input_name!r}"
        )
    wanted = graph.spec.preprocess.input_size if graph.spec else graph.input_size
    if any(has is not None and has != asked for has, asked in zip(wanted, size, strict=True)):
        shape = ",".join("?" if dim is None else str(dim) for dim in wanted)
        raise CompileError(f"--input_shape={text!r}: {graph.path} takes {graph.input_name}:N,{shape}")
    if batch < 1:
        raise CompileError(f"--input_shape={text!r}: the batch size is 0, at least 1 is accepted")
    return batch
