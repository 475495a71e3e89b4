# SPDX-License-Identifier: Apache-2.0
"""`da3 models`: which networks there are, and which of them are on this machine."""

import json as json_format

import typer

from da3_core.cli.arguments import Debug, Json
from da3_core.cli.failures import failures_reported
from da3_core.cli.table import table


def models(json: Json = False, debug: Debug = False) -> None:
    """List the models: what each gives, licence and size of its weights, and whether they are here."""
    with failures_reported(debug):
        from da3_core.model.presets import PRESETS
        from da3_core.model.weights import cached

        files = {name: cached(preset) for name, preset in PRESETS.items()}
        if json:
            told = [
                {
                    "name": preset.name,
                    "hub_id": preset.hub_id,
                    "kind": preset.kind,
                    "gives": preset.gives,
                    "weights_licence": preset.licence,
                    "parameters": preset.parameters,
                    "weights_bytes": preset.weights_bytes,
                    "process_res": preset.process_res,
                    "cached": None if files[name] is None else str(files[name]),
                }
                for name, preset in PRESETS.items()
            ]
            typer.echo(json_format.dumps(told, indent=2))
            return
        rows = [
            (name, preset.licence, f"{preset.weights_bytes / 1e9:.1f} GB", "yes" if files[name] else "no", preset.gives)
            for name, preset in PRESETS.items()
        ]
        typer.echo(table(("model", "licence", "size", "here", "gives"), rows))
