"""Every `modelport …` in the documentation, held against the command line itself: the command and its options exist."""

from __future__ import annotations

import re

import click
import pytest
from doc_pages import PAGES, Block, blocks, commands_in, inline_commands, name

from modelport.cli import _COMMANDS, cli

_GAP = re.compile(r"[…\[\]]")  # prose leaves things out


def parse(words: list[str]) -> None:
    """Raises click's error where a command, an option or a choice does not exist or a required one is missing; runs nothing."""
    command, context = cli, click.Context(cli, info_name="modelport")
    while isinstance(command, click.Group):
        options, rest, _ = command.make_parser(context).parse_args(list(words))
        if not rest:
            return  # such as `modelport --version`
        _, found, words = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=rest[0])
    options, _, _ = command.make_parser(context).parse_args(list(words))
    if options.keys() & {"help"}:
        return
    for parameter in command.params:
        given = options.get(parameter.name)
        if not isinstance(given, (str, list, tuple, bool)):
            given = None  # click's mark for what was left out
        if parameter.required and not given and not parameter.envvar:
            raise click.MissingParameter(ctx=context, param=parameter)
        for value in given if isinstance(given, (list, tuple)) else [given]:
            if isinstance(value, str) and isinstance(parameter.type, (click.Choice, click.IntRange, click.FloatRange)):
                parameter.type.convert(value, parameter, context)


def mentioned(words: list[str]) -> None:
    """As `parse`, for a command in prose, which may leave out what it wants: what it names exists."""
    command, context = cli, click.Context(cli, info_name="modelport")
    words = [word for word in words if not _GAP.search(word)]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if not re.fullmatch(r"[a-z0-9-]+", words[0]):
            return
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h", "--version"}
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("-") and option not in known:
            raise click.NoSuchOption(option, ctx=context)


SHELL = [block for block in blocks() if block.language in ("sh", "console")]


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_in_blocks_exist(block: Block) -> None:
    for words in commands_in(block.text):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_prose_exist(page) -> None:
    for words in inline_commands(page.read_text(encoding="utf-8")):
        mentioned(words)


def test_every_command_is_shown_somewhere() -> None:
    blocks_show = [words for block in SHELL for words in commands_in(block.text)]
    prose_shows = [words for page in PAGES for words in inline_commands(page.read_text(encoding="utf-8"))]
    shown = {words[0] for words in (*blocks_show, *prose_shows) if words}
    assert sorted(set(_COMMANDS) - shown) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("modelport flatten model.onnx", "No such command 'flatten'"),
        ("modelport compile a.onnx --engine openvino --presicion f32", "No such option '--presicion'"),
        ("modelport compile a.onnx --engine openvino --precision f33", "'f33' is not one of"),
        ("modelport infer offline -o out", "Missing option '--images'"),
        ("FORCE=1 modelport guide pth2onn a b | tail", "No such command 'pth2onn'"),
        ("if ! modelport bench; then", "Missing argument 'MODELS...'"),
    ],
)
def test_what_does_not_exist_is_seen(line: str, told: str) -> None:
    (words,) = commands_in(line)
    with pytest.raises(click.UsageError) as caught:
        parse(words)
    assert told in caught.value.format_message().replace('"', "'")


def test_what_prose_misnames_is_seen() -> None:
    (words,) = inline_commands("Say `modelport tune … --gaol latency` then.")
    with pytest.raises(click.NoSuchOption):
        mentioned(words)
