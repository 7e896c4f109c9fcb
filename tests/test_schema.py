"""Records from outside: whatever is wrong with a document, its place and the likely intent are named in one line."""

from __future__ import annotations

import datetime
import json
import math
import re

import pytest
from pydantic import Field, ValidationError

from modelport.errors import FormatError
from modelport.schema import Record, read_text, read_yaml


class Size(Record):
    width: int
    height: int = 1


class Order(Record):
    name: str
    size: Size
    more: tuple[Size, ...] = ()
    other: Size | None = None
    named: dict[str, Size] = Field(default_factory=dict)
    share: float = 0.5


GOOD = {"name": "x", "size": {"width": 3}}


def complaint(data: object) -> str:
    """What is said about a document."""
    with pytest.raises(FormatError) as caught:
        Order.parse(data, "order.yaml")
    message = str(caught.value)
    assert message.startswith("order.yaml: ")
    assert "\n" not in message
    return message.removeprefix("order.yaml: ")


def test_a_good_document_with_defaults():
    order = Order.parse({**GOOD, "more": [{"width": 1, "height": 2}]}, "order.yaml")
    assert order == Order(name="x", size=Size(width=3, height=1), more=(Size(width=1, height=2),))


def test_a_record_does_not_change():
    order = Order.parse(GOOD, "order.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        order.name = "y"


class TestUnknownKey:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"nmae": "y"}, "nmae: unknown key, did you mean 'name'?"),
            ({"size": {"width": 1, "heigth": 1}}, "size.heigth: unknown key, did you mean 'height'?"),
            ({"more": [{"width": 1}, {"width": 1, "widht": 1}]}, "more.1.widht: unknown key, did you mean 'width'?"),
            ({"other": {"width": 1, "hight": 1}}, "other.hight: unknown key, did you mean 'height'?"),
            ({"named": {"a": {"width": 1, "hight": 1}}}, "named.a.hight: unknown key, did you mean 'height'?"),
        ],
        ids=["top", "nested", "in a list", "optional", "in a mapping"],
    )
    def test_place_and_intent(self, change, expected):
        assert complaint({**GOOD, **change}) == expected

    def test_a_key_like_none_lists_the_accepted_ones(self):
        assert complaint({**GOOD, "zzz": 1}) == "zzz: unknown key, accepted: name, size, more, other, named, share"
        assert complaint({**GOOD, "size": {"width": 1, "zzz": 1}}) == "size.zzz: unknown key, accepted: width, height"


class TestWrongValue:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"name": 5}, "name: input should be a valid string, got 5"),
            ({"size": {"width": "3"}}, 'size.width: input should be a valid integer, got "3"'),
            ({"size": {"width": True}}, "size.width: input should be a valid integer, got true"),
            ({"size": {"width": None}}, "size.width: input should be a valid integer, got null"),
            ({"more": [{"width": 1}, {"width": 1.5}]}, "more.1.width: input should be a valid integer"),
            ({"more": {"width": 1}}, "more: input should be a valid array"),
            ({"size": 4}, "size: input should be an object, got 4"),
            ({"share": "half"}, 'share: input should be a valid number, got "half"'),
        ],
    )
    def test_place_what_was_found_and_what_is_accepted(self, change, expected):
        assert complaint({**GOOD, **change}).startswith(expected)

    def test_long_values_are_cut(self):
        message = complaint({**GOOD, "size": {"width": "x" * 1000}})
        assert message.endswith('got "' + "x" * 56 + "...")

    @pytest.mark.parametrize(("document", "shown"), [([], "[]"), (None, "null"), ("text", '"text"'), (3, "3")])
    def test_a_document_that_is_no_mapping(self, document, shown):
        assert re.fullmatch(rf"document: input should be an object, got {re.escape(shown)}", complaint(document))

    @pytest.mark.parametrize("value", [datetime.date(2024, 5, 1), {1, 2}, b"bytes"])
    def test_a_value_that_json_does_not_know(self, value):
        assert complaint({**GOOD, "name": value}).startswith("holds a value that is not plain text, number or list: ")

    def test_a_document_that_contains_itself(self):
        document: dict[str, object] = dict(GOOD)
        document["more"] = [document]
        assert "Circular reference" in complaint(document)


class TestMissing:
    @pytest.mark.parametrize(
        ("document", "expected"),
        [
            ({"size": {"width": 1}}, "name: is required"),
            ({"name": "x", "size": {}}, "size.width: is required"),
            ({**GOOD, "more": [{"height": 1}]}, "more.0.width: is required"),
        ],
    )
    def test_place(self, document, expected):
        assert complaint(document) == expected


def test_several_problems_are_told_in_one_line():
    assert complaint({"nmae": "x", "size": {"width": 1}}) == (
        "name: is required; nmae: unknown key, did you mean 'name'?"
    )
    assert complaint({"a": 1, "b": 2, "c": 3, "name": 4, "size": 5}).endswith(" (and 2 more)")


class TestFile:
    def test_round_trip(self, tmp_path):
        order = Order(name="ü", size=Size(width=3), more=(Size(width=4),), other=None, named={"a": Size(width=1)})
        order.write(tmp_path / "order.json")
        assert Order.read(tmp_path / "order.json") == order
        assert json.loads((tmp_path / "order.json").read_text(encoding="utf-8")) == order.jsonable()

    def test_written_to_be_read_by_people(self, tmp_path):
        Size(width=3).write(tmp_path / "size.json")
        assert (tmp_path / "size.json").read_text() == '{\n  "width": 3,\n  "height": 1\n}\n'

    @pytest.mark.parametrize("share", [math.nan, math.inf, -math.inf])
    def test_round_trip_of_what_is_not_finite(self, tmp_path, share):
        Order(name="x", size=Size(width=1), share=share).write(tmp_path / "order.json")
        assert Order.read(tmp_path / "order.json").share == pytest.approx(share, nan_ok=True)

    def test_missing(self, tmp_path):
        with pytest.raises(FormatError, match=r"order\.json: cannot be read: No such file or directory$"):
            Order.read(tmp_path / "order.json")

    def test_directory(self, tmp_path):
        with pytest.raises(FormatError, match=r"cannot be read: Is a directory$"):
            Order.read(tmp_path)

    @pytest.mark.parametrize("text", ["", "{", '{"name": x}', "name: x", '{"name": "x",}'])
    def test_not_json(self, tmp_path, text):
        (tmp_path / "order.json").write_text(text)
        with pytest.raises(FormatError, match=r"order\.json: not valid JSON: [^\n]* line 1 column \d+"):
            Order.read(tmp_path / "order.json")

    def test_not_utf8(self, tmp_path):
        (tmp_path / "order.json").write_bytes(b'{"name": "caf\xe9"}')
        with pytest.raises(FormatError, match=r"order\.json: is not UTF-8 text \(byte 13\)$"):
            Order.read(tmp_path / "order.json")

    def test_wrong_key_names_the_file(self, tmp_path):
        (tmp_path / "order.json").write_text('{"nmae": "x", "name": "x", "size": {"width": 1}}')
        with pytest.raises(FormatError, match=r"order\.json: nmae: unknown key, did you mean 'name'\?$"):
            Order.read(tmp_path / "order.json")

    def test_text(self, tmp_path):
        (tmp_path / "x").write_bytes("ü\n".encode())
        assert read_text(tmp_path / "x") == "ü\n"


class TestYaml:
    def read(self, tmp_path, text: str | bytes) -> object:
        (tmp_path / "recipe.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        return read_yaml(tmp_path / "recipe.yaml")

    def complaint(self, tmp_path, text: str | bytes) -> str:
        with pytest.raises(FormatError) as caught:
            self.read(tmp_path, text)
        message = str(caught.value)
        assert "\n" not in message, "an error is one line"
        assert "recipe.yaml: " in message
        return message.partition("recipe.yaml: ")[2]

    def test_plain_values(self, tmp_path):
        assert self.read(tmp_path, "a: [1, 2.5, x]\nb: {c: null}\n") == {"a": [1, 2.5, "x"], "b": {"c": None}}

    def test_syntax_error_with_its_line(self, tmp_path):
        assert self.complaint(tmp_path, "a: 1\nb: [1, 2\nc: 3\n").startswith("not valid YAML: line 3, column 2: ")

    def test_tab(self, tmp_path):
        assert self.complaint(tmp_path, "a:\n\tb: 1\n").startswith("not valid YAML: line 2, column 1: ")

    def test_python_objects_are_refused(self, tmp_path):
        message = self.complaint(tmp_path, "a: !!python/object/apply:os.getcwd []\n")
        assert message.startswith("not valid YAML: line 1, column 4: could not determine a constructor")

    def test_missing(self, tmp_path):
        with pytest.raises(FormatError, match=r"absent\.yaml: cannot be read: No such file or directory$"):
            read_yaml(tmp_path / "absent.yaml")

    def test_not_utf8(self, tmp_path):
        assert self.complaint(tmp_path, b"a: caf\xe9\n") == "is not UTF-8 text (byte 6)"

    def test_control_character(self, tmp_path):
        assert self.complaint(tmp_path, "a: \x00\n").startswith("not valid YAML: ")

    @pytest.mark.parametrize("text", ["started: 2024-13-45\n", "seed: 1" + "0" * 5000 + "\n"], ids=["date", "number"])
    def test_value_that_cannot_be_built(self, tmp_path, text):
        """Well-formed YAML whose value Python refuses; a plain date or number to the person who wrote it."""
        assert self.complaint(tmp_path, text).startswith("not valid YAML: ")
