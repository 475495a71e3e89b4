# SPDX-License-Identifier: Apache-2.0
"""`da3 formats`: what can be written, into which files, and what each format can be told."""

import json as json_format
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from da3_core.cli.arguments import Debug, Json, complete_formats
from da3_core.cli.failures import failures_reported
from da3_core.cli.table import table
from da3_core.options import declared

if TYPE_CHECKING:
    from da3_core.export import Exporter
    from da3_core.options import Option


def formats(
    export_format: Annotated[
        str | None,
        typer.Argument(
            metavar="[FORMAT]",
            help="One or several: with their options.",
            autocompletion=complete_formats,
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the export formats with their files; of named ones also the options."""
    with failures_reported(debug):
        from da3_core.export import EXPORTERS, parse_formats

        named = parse_formats(export_format) if export_format else ()
        chosen = {name: EXPORTERS[name] for name in named or EXPORTERS}
        if json:
            typer.echo(json_format.dumps([_told(name, each) for name, each in chosen.items()], indent=2))
            return
        rows = [(name, f"{_about(each)}: {', '.join(each.files)}") for name, each in chosen.items()]
        typer.echo(table(("format", "holds: files"), rows))
        for name in named:
            typer.echo(f"\n{name}, as in --export-kwargs {name}:OPTION:VALUE")
            own = _options(name)
            if own:
                options = [(each.name, shown(each), f"{each.sentence} ({each.limits})") for each in own.values()]
                typer.echo(table(("option", "default", "meaning"), options))
            else:
                typer.echo("has no options")


def shown(each: "Option") -> str:
    """The default of an option in a table for people."""
    return each.unset if each.unset and each.default is None else json_format.dumps(each.default).strip('"')


def _options(name: str) -> dict[str, "Option"]:
    from da3_core.export import options_of

    return declared(options_of(name))


def _about(each: "Exporter") -> str:
    missing = [package for package in each.packages if find_spec(package) is None]
    return each.summary + (f"; needs pip install 'da3_ros[{each.extra}]' for {', '.join(missing)}" if missing else "")


def _told(name: str, each: "Exporter") -> dict[str, Any]:
    return {
        "name": name,
        "summary": each.summary,
        "files": each.files,
        "needs": each.needs,
        "is_installed": all(find_spec(package) for package in each.packages),
        "options": [
            {"name": one.name, "default": one.default, "values": one.limits, "meaning": one.sentence}
            for one in _options(name).values()
        ],
    }
