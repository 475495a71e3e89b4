# SPDX-License-Identifier: Apache-2.0
"""What commands that serve have in common: the model that they lend, and the port that they listen on."""

import json as json_format
import socket
from typing import TYPE_CHECKING

import typer

from da3_core.cli.arguments import ServedModelOptions
from da3_core.cli.failures import FAILED, report

if TYPE_CHECKING:
    from da3_core.model.presets import Preset
    from da3_core.web.model_runner import ModelRunner
    from da3_core.web.uploads import UploadLimits


def served_model(options: ServedModelOptions) -> "tuple[Preset, ModelRunner]":
    """Which model it is, and what loads it with the first use.

    Raises:
        InputError: it could never be loaded.
    """
    from da3_core.model.weights import identify
    from da3_core.web.model_runner import ModelRunner

    preset = identify(options.model, weights_licence=options.weights_licence)
    runner = ModelRunner(options, idle_seconds=options.unload_after, preset=preset)
    return preset, runner


def models_at_hand(options: ServedModelOptions, served: "Preset") -> "dict[str, Preset]":
    """The other models whose weights are on this machine and are allowed, by name."""
    from da3_core.model.presets import PRESETS
    from da3_core.model.weights import cached

    return {
        name: preset
        for name, preset in PRESETS.items()
        if name != served.name and (preset.is_permissive or options.weights_licence == "any") and cached(preset)
    }


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket, or the end of the command with code 1."""
    from da3_core.web.server import PortError, listen

    try:
        return listen(host, port)
    except PortError as error:
        report(error)
        raise typer.Exit(FAILED) from None


def tell_address(text: str, url: str, json: bool, **more: str) -> None:
    """Say on stdout where a service listens now; programs read it as one line of JSON."""
    typer.echo(json_format.dumps({"url": url, **more}) if json else f"{text}: {url} (Ctrl-C ends it)")


def upload_limits(total_mb: int, caller_mb: int | None, file_mb: int) -> "UploadLimits":
    """In bytes; a caller has half of it all unless something else is said, and a file no more than a caller."""
    from da3_core.web.uploads import UploadLimits

    total = total_mb << 20
    caller = total // 2 if caller_mb is None else min(total, caller_mb << 20)
    return UploadLimits(min(caller, file_mb << 20), caller, total)
