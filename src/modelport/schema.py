"""Records that travel as JSON or YAML: frozen, strict, and with errors that name the place and the likely intent."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from . import files
from .errors import FormatError

# What json.loads raises: it is no JSON or no UTF-8, has a number of thousands of digits, or is nested a thousand deep.
JSON_ERRORS = (ValueError, RecursionError)


class Record(BaseModel):
    """A frozen value with named fields; unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def jsonable(self) -> dict[str, Any]:
        """The record as plain JSON values, computed fields included."""
        return self.model_dump(mode="json")

    def write(self, path: Path) -> None:
        """Write the record as one indented JSON document, atomically."""
        files.write_text(path, json.dumps(self.jsonable(), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def parse(cls, data: Any, where: str) -> Self:
        """Build the record from plain values; `where` names the source in errors.

        Raises:
            FormatError: a key is unknown, missing or of the wrong type; the message has its place.
        """
        try:
            text = json.dumps(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise FormatError(f"{where}: holds a value that is not plain text, number or list: {error}") from error
        return cls._validated(text, where)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON document.

        Raises:
            FormatError: the file is missing, is not JSON, or does not fit.
        """
        return cls._validated(read_text(path), str(path))

    @classmethod
    def _validated(cls, text: str, where: str) -> Self:
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise FormatError(f"{where}: {_explain(cls, error)}") from error


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, with a FormatError that names the file where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file, safe-loaded."""
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date or number that cannot be is a ValueError
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise FormatError(f"{path}: not valid YAML: {place}{problem}") from error


def _explain(record: type[BaseModel], error: ValidationError) -> str:
    """The first problems in one line: place, what was found, what is accepted."""
    problems = error.errors(include_url=False)
    told = [_explain_one(record, problem) for problem in problems[:3]]
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "; ".join(told) + more


def _explain_one(record: type[BaseModel], problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or "document"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(record, problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"accepted: {', '.join(known)}"
        return f"{place}: unknown key, {hint}"
    if problem["type"] == "missing":
        return f"{place}: is required"
    if problem["type"] == "json_invalid":
        return f"not valid JSON: {problem['ctx']['error']}"
    message = problem["msg"].removeprefix("Value error, ")
    got = json.dumps(problem["input"], default=str)
    got = got if len(got) <= 60 else got[:57] + "..."
    return f"{place}: {message[0].lower()}{message[1:]}, got {got}"


def _fields_at(record: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Field names of the record at a place in the document, found through its JSON schema."""
    schema = record.model_json_schema()
    definitions, node = schema.get("$defs", {}), schema
    for part in location:
        node = _resolve(node, definitions)
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
    return list(_resolve(node, definitions).get("properties", {}))


def _resolve(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", []):
        if option.get("type") != "null":
            return _resolve(option, definitions)
    if "$ref" in node:
        return _resolve(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    return node
