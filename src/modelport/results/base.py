"""What every result is, and the machine that it was measured on."""

from __future__ import annotations

from pydantic import ConfigDict

from ..errors import FormatError
from ..schema import Record


class Result(Record):
    """A record of something measured. Its computed fields are written as well, and passed over when it is read back."""

    model_config = ConfigDict(extra="ignore")


class Environment(Result):
    """Machine and software that a result was measured with."""

    modelport: str
    python: str
    system: str
    machine: str
    cpu: str
    cpu_family: str
    cpu_features: tuple[str, ...]
    cores: int
    memory_bytes: int
    packages: dict[str, str]

    def differences(self, other: Environment) -> list[str]:
        """Each field in which `other` differs, as `name: ours, theirs`; empty where figures may be compared."""
        ours, theirs = self._flat(), other._flat()
        keys = dict.fromkeys([*ours, *theirs])
        return [f"{key}: {ours.get(key)}, {theirs.get(key)}" for key in keys if ours.get(key) != theirs.get(key)]

    def _flat(self) -> dict[str, object]:
        plain = self.jsonable()
        return plain | {f"packages.{name}": version for name, version in plain.pop("packages").items()}


def require_comparable(ours: Environment, theirs: Environment) -> None:
    """Raise FormatError, naming the differences, where figures of two environments must not be compared."""
    if found := ours.differences(theirs):
        raise FormatError(f"the results were measured in unlike environments: {'; '.join(found)}")
