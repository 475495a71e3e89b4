# SPDX-License-Identifier: Apache-2.0
"""`da3 doctor`: what is installed, what would be chosen and why, and what stands in the way."""

import json as json_format
from dataclasses import asdict
from typing import Annotated

import typer

from da3_core.cli.arguments import Debug, Json
from da3_core.cli.failures import failures_reported
from da3_core.cli.table import table


def doctor(
    json: Json = False,
    ask_hub: Annotated[bool, typer.Option(help="Ask the hub whether it would give weights; takes seconds.")] = True,
    debug: Debug = False,
) -> None:
    """Tell what is installed, which model, device and engine would be chosen and why, and how to mend what lacks."""
    with failures_reported(debug):
        from da3_core.cli.examination import examine  # imports torch

        findings = examine(ask_hub=ask_hub)
        if json:
            typer.echo(json_format.dumps([asdict(each) for each in findings], indent=2))
            return
        typer.echo(table(("what", "found"), [(each.name, each.found) for each in findings]))
        for each in findings:
            if each.remedy:
                typer.echo(f"\n{each.name}: {each.remedy}")
