# SPDX-License-Identifier: Apache-2.0
"""Help pages: options and commands under headings, as wide as the terminal, plain text that can be searched."""

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# The width of a page is that of the terminal, or this.
WIDTH = {"max_content_width": 10_000}

_OTHERS = "Options"


class GroupedCommand(TyperCommand):
    """A command whose options stand under the headings that they were declared with."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)


class GroupedCommands(TyperGroup):
    """The commands, each under its heading."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)
        headings: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            assert isinstance(command, TyperCommand)
            row = (name, command.get_short_help_str(limit=WIDTH["max_content_width"]))
            headings.setdefault(command.rich_help_panel or "Commands", []).append(row)
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def _write_options(command: Any, ctx: typer.Context, formatter: Any) -> None:
    headings: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        row = parameter.get_help_record(ctx)
        if row is not None:
            is_argument = parameter.param_type_name == "argument"
            heading = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or _OTHERS
            headings.setdefault(heading, []).append(row)
    for heading in sorted(headings, key=lambda each: (each != "Arguments", each == _OTHERS)):
        with formatter.section(heading):
            formatter.write_dl(headings[heading])
