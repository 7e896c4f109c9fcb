"""What `modelport doctor` found: the machine, its engines, and what to mend."""

from __future__ import annotations

from typing import Literal

from ..spec import Precision
from .base import Environment, Result
from .performance import Hygiene


class EngineCheck(Result):
    """One engine at one precision. `executed` is what really ran, `problem` why it did not."""

    engine: str
    version: str | None
    precision: Precision
    executed: Precision | None
    problem: str | None


class Processor(Result):
    """What the processor offers, and what of it this process may use.

    Attributes:
        arithmetic: kinds that speed up a network, such as VNNI, and whether it has them.
        physical_cores: of the machine; None where the system does not say.
        logical_cores: of the machine.
        usable_cores: that this process may be scheduled on.
        quota_cores: cores' worth of time that its control group gets; None where it is not limited.
        governor: how the clock is chosen, such as performance; None where the system does not say, as in most virtual machines.
        mhz, most_mhz: clock now, and at most; None where the system does not say.
        virtual: whether this is a virtual machine, whose host may be busy without being seen here.
        container: what kind of container this is; None where it looks like none.
    """

    arithmetic: dict[str, bool]
    physical_cores: int | None
    logical_cores: int
    usable_cores: int
    quota_cores: float | None
    governor: str | None
    mhz: float | None
    most_mhz: float | None
    virtual: bool
    container: str | None


class Memory(Result):
    """Main memory in bytes. `limit` is the control group's; None where it has none."""

    total: int
    available: int
    limit: int | None


class Disk(Result):
    """A directory's disk, measured with a file of random bytes that is removed again.

    Attributes:
        path: the directory.
        filesystem: such as ext4; a `tmpfs` is memory.
        free: bytes.
        file_bytes: size of the file.
        written_a_second: bytes, until they are durable (fsync).
        read_a_second: bytes, after the system was asked to forget the file.
        forgotten: whether it could be asked; where not, reading read memory.
        commit_ms: until four more kilobytes are durable, the median: what each finished batch of `infer` costs.
    """

    path: str
    filesystem: str
    free: int
    file_bytes: int
    written_a_second: float
    read_a_second: float
    forgotten: bool
    commit_ms: float


class Accelerator(Result):
    """A device, as `told_by` names it: a tool, a runtime or the system's list of devices. `problem` is why it cannot be used."""

    name: str
    told_by: str
    detail: str
    problem: str | None = None


class OptionalPackage(Result):
    """A package that is there for some uses only. `version` is None where it is not installed."""

    name: str
    version: str | None
    serves: str
    extra: str


class Telemetry(Result):
    """What a vendor's package would report of its use. In modelport all of it is off.

    Attributes:
        product: whose.
        installed: whether what reports is installed.
        elsewhere: what it does in other programs of this user: off, on, or asked.
        switch_off: command that switches it off for those.
    """

    product: str
    installed: bool
    elsewhere: Literal["off", "on", "not decided"]
    switch_off: str


class Problem(Result):
    """What is wrong, and the command or deed that mends it.

    `error`: something does not work. `warning`: figures or comfort suffer. `note`: something is left out, which may be intended.
    """

    level: Literal["error", "warning", "note"]
    what: str
    mend: str


class Diagnosis(Result):
    """The machine, every engine on it, and the problems, gravest first."""

    format: Literal["modelport.diagnosis"] = "modelport.diagnosis"
    format_version: Literal[1] = 1
    environment: Environment
    processor: Processor
    memory: Memory
    disk: Disk
    accelerators: tuple[Accelerator, ...]
    engines: tuple[EngineCheck, ...]
    packages: tuple[OptionalPackage, ...]
    telemetry: tuple[Telemetry, ...]
    hygiene: Hygiene
    problems: tuple[Problem, ...]
