"""What every result is, and the machine that it was measured on."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict

from ..errors import FormatError
from ..schema import Record


class Result(Record):
    """A record of something measured. Its computed fields are written as well, and passed over when it is read back."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def _validated(cls, text: str, where: str) -> Self:
        found = super()._validated(text, where)
        try:
            found.jsonable()
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise FormatError(
                f"{where}: holds figures from which others cannot be computed ({_first_line(error)}); was it edited?"
            ) from error
        return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


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
