"""Records that travel as JSON or YAML: frozen, strict, and with errors that name the place and the likely intent."""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from . import files, limits
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


def read_text(path: Path, most: int = limits.TEXT_BYTES) -> str:
    """Text of a UTF-8 file of `most` bytes, with a FormatError that names the file where it cannot be read."""
    try:
        data = files.read_regular(path, most)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file that are not blank, without blanks around them, numbers from 1."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if len(line) > limits.LINE_CHARACTERS:
            raise FormatError(f"{path}:{number}: has {len(line):,} characters, more than {limits.LINE_CHARACTERS:,}")
        if line.strip():
            yield number, line.strip()


def parse_json(text: str | bytes, where: str) -> Any:
    """Plain values of a JSON text; one that is nested too deep, or holds an absurd number, is a FormatError as well."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: not valid JSON: {error}") from error


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file, safe-loaded."""
    return parse_yaml(read_text(path, limits.YAML_BYTES), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Plain values of a YAML text, safe-loaded.

    Raises:
        FormatError: it is not YAML, or its aliases would multiply its values beyond measure.
    """
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date or number that cannot be is a ValueError
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise FormatError(f"{where}: not valid YAML: {place}{problem}") from error


class _Loader(yaml.SafeLoader):
    """The safe loader, which counts what aliases and merges stand for before it builds any of it.

    The scanner looks at every bracket that is open for each token, so it is kept from nesting deeply.
    """

    def fetch_flow_collection_start(self, token_class: type) -> None:
        if self.flow_level >= limits.YAML_DEPTH:
            raise ValueError(f"brackets are nested more than {limits.YAML_DEPTH} deep")
        super().fetch_flow_collection_start(token_class)

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and (count := _values(node, {})) > limits.YAML_VALUES:
            raise ValueError(f"its aliases stand for {count:.3g} values, more than {limits.YAML_VALUES:,}")
        return node


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for. One that contains itself counts as nothing there; it is refused later."""
    if id(node) not in known:
        known[id(node)] = 0
        children = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        inner = () if isinstance(node, yaml.ScalarNode) else children
        known[id(node)] = 1 + sum(_values(child, known) for child in inner)
    return known[id(node)]


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
