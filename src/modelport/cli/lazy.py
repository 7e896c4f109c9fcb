"""A command group whose subcommands are imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group with a table of names and modules; each module defines `command`."""

    def __init__(self, *arguments: Any, package: str, table: dict[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._package, self._table = package, table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return import_module(f"{self._package}.{self._table[name]}").command if name in self._table else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0], self._table, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(self._table)}."
            raise click.UsageError(f"No such command {args[0]!r}. {hint}", ctx) from error
