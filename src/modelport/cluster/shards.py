"""What travels between the driver and the actors: shards of the images out, outcomes (and parts, where need be) back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..data.decoders import Preprocessing
from ..data.source import Sample, Source
from ..data.sources.parquet import Row
from ..data.sources.place import Known, Remote
from ..data.sources.tar import Member
from ..engines.session import SessionOptions
from ..origin import Origin
from ..pipeline import PipelineOptions
from ..results import DeviceStats, StageStats
from ..schema import Record

_SHARDS_EACH = 4  # for every actor, so that none is idle for long at the end


@dataclass(frozen=True, slots=True)
class Shard:
    """Images that follow each other in the source, from place `start` on. They travel by name: no pixels."""

    start: int
    source: Source

    def pack(self) -> bytes:
        """As bytes; neighbours' paths are much alike, so they are small."""
        content = [self.start, self.source.where, self.source.samples]
        return zlib.compress(json.dumps(content, default=_as_json, separators=(",", ":")).encode(), level=1)

    @classmethod
    def unpack(cls, data: bytes) -> Shard:
        """Back from bytes that `pack` made."""
        start, where, samples = json.loads(zlib.decompress(data))
        return cls(start, Source(where, tuple(map(_sample, samples))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What an actor is told once.

    Attributes:
        model: directory of the offline model, at the same place on every node.
        digest: sha256 of its manifest.
        session, pipeline, preprocessing: how it is run.
        parts: where parts are to be written, if that is the driver's directory.
        token: the driver's attempt; a file of this name in `parts` tells that it is the same directory, and parts carry it, so
            that what is left over from a driver that was killed never overwrites them.
    """

    model: Path
    digest: str
    session: SessionOptions
    pipeline: PipelineOptions
    preprocessing: Preprocessing
    parts: Path
    token: str

    @property
    def proof(self) -> Path:
        """The file by which an actor knows that it sees the driver's directory."""
        return self.parts / f"{self.token}.driver"

    def part(self, start: int, images: int) -> Path:
        """Where the part of a shard lies."""
        return self.parts / f"{start:012d}-{images}-{self.token}.parquet"


class Outcome(Record):
    """What became of a shard.

    Attributes:
        start: its first place.
        images: how many were done.
        sha256: of the part.
        actor: who did it, such as `10.0.0.5 pid 4242`.
        stages, devices: what the actor's pipeline did for it.
        restarts: how often the engine's own process was started again for it; None where it has none.
        error, message: class and text of what ended it; None where it was done.
    """

    start: int
    images: int
    actor: str
    sha256: str = ""
    stages: tuple[StageStats, ...] = ()
    devices: tuple[DeviceStats, ...] = ()
    restarts: int | None = None
    error: str | None = None
    message: str = ""


def cut(source: Source, holes: list[range], batch: int, *, actors: int, most: int) -> Iterator[Shard]:
    """Cut what is to be done into shards of whole batches: a few for every actor, and of `most` images where there are many."""
    left = sum(map(len, holes))
    wanted = min(most, -(-left // (_SHARDS_EACH * actors)))
    size = -(-wanted // batch) * batch
    for hole in holes:
        for start in range(hole.start, hole.stop, size):
            yield Shard(start, _absolute(source.at(range(start, min(start + size, hole.stop)))))


def _absolute(source: Source) -> Source:
    """An actor's working directory is another."""
    samples = (replace(sample, origin=_absolute_origin(sample.origin)) for sample in source)
    return replace(source, samples=tuple(samples))


def _absolute_origin(origin: Origin) -> Origin:
    if isinstance(origin, Path):
        return origin.absolute()
    if isinstance(origin, (Member, Row)) and isinstance(origin.shard, Path):
        return replace(origin, shard=origin.shard.absolute())
    return origin


def _as_json(value: Any) -> object:
    """What JSON lacks: a path is a text, a sample or an origin the list of what it holds, an origin's after its kind."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    held = [getattr(value, field.name) for field in fields(value)]
    return held if isinstance(value, Sample) else [type(value).__name__, *held]


def _sample(held: list[Any]) -> Sample:
    key, origin, label, sha256 = held
    return Sample(key, _origin(origin), label, None if sha256 is None else bytes.fromhex(sha256))


def _origin(held: Any) -> Any:
    match held:
        case str():
            return Path(held)
        case ["Remote", url, known]:
            return Remote(url, None if known is None else Known(*known))
        case ["Member", shard, *rest]:
            return Member(_origin(shard), *rest)
        case ["Row", shard, *rest]:
            return Row(_origin(shard), *rest)
    raise ValueError(f"{held!r} is no origin")
