# SPDX-License-Identifier: Apache-2.0
"""`da3 gradio`: the web app."""

from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from da3_core.cli.arguments import Debug, Json, ServedModelOptions, flatten_arguments
from da3_core.cli.failures import failures_reported, terminated_like_interrupted
from da3_core.cli.serve import models_at_hand, open_port, served_model, tell_address, upload_limits
from da3_core.errors import InputError
from da3_core.options import InferenceOptions, same_option


@dataclass(frozen=True)
class AppArguments:
    """Which folders, how large, and who can reach the app."""

    workspace_dir: Annotated[Path, typer.Option(help="Of uploads, results and, in examples/, example scenes.")] = Path(
        "workspace/gradio"
    )
    gallery_dir: Annotated[Path, typer.Option(help="Folder in which scenes are saved, for `da3 gallery`.")] = Path(
        "workspace/gallery"
    )
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens the app to the network.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which visitors know this machine; may be repeated.", show_default="its own"),
    ] = None
    share: Annotated[bool, typer.Option("--share", help="Also open a public address by way of Gradio's servers.")] = (
        False
    )
    json: Json = False
    debug: Debug = False
    cache_examples: Annotated[
        bool, typer.Option("--cache-examples", help="Compute the results of all example scenes before the start.")
    ] = False
    cache_gs_tag: Annotated[
        str, typer.Option(help="Of examples whose names contain this: high resolution and Gaussians.")
    ] = ""
    session_hours: Annotated[
        float, typer.Option(min=0.01, help="A visitor's files are deleted after so long without use.")
    ] = 6.0
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Most that uploads take, all together.")] = 8192
    max_upload_mb_per_caller: Annotated[
        int | None,
        typer.Option(min=1, help="Most that those from one address take.", show_default="half of --max-upload-mb"),
    ] = None
    max_upload_mb_per_file: Annotated[int, typer.Option(min=1, help="Most that one of them has.")] = 1024
    max_task_seconds: Annotated[float, typer.Option(min=1, help="Most time that an inference may take.")] = 3600.0
    process_res: int | None = same_option(InferenceOptions, "process_res")


@flatten_arguments("command")
def gradio(model: ServedModelOptions, arguments: AppArguments) -> None:
    """Serve a page that turns images or a video into a point cloud, depth and measurements."""
    with failures_reported(arguments.debug):
        if find_spec("gradio") is None:
            raise InputError(
                "da3 gradio needs the package 'gradio', which is not installed: pip install \"da3_ros[app]\""
            )
        _serve(model, arguments)


def _serve(model: ServedModelOptions, arguments: AppArguments) -> None:
    from da3_core.cli.progress import stage
    from da3_core.web.app import launch
    from da3_core.web.server import is_loopback, serve, url_of

    if arguments.cache_gs_tag and not arguments.cache_examples:
        raise InputError("--cache-gs-tag says which examples are computed with Gaussians: add --cache-examples")
    settings = launch.AppSettings(
        arguments.workspace_dir,
        arguments.gallery_dir,
        arguments.process_res,
        arguments.session_hours * 3600,
        arguments.cache_gs_tag,
        upload_limits(arguments.max_upload_mb, arguments.max_upload_mb_per_caller, arguments.max_upload_mb_per_file),
        arguments.max_task_seconds,
    )
    preset, runner = served_model(model)
    settings.make_folders()
    with open_port(arguments.host, arguments.port) as listener:
        if arguments.cache_examples:
            launch.compute_examples(settings, runner, preset, stage)
        public = launch.open_tunnel(listener) if arguments.share else None
        names = [arguments.host, *(arguments.allow_host or ())]
        names += [str(urlsplit(public).hostname)] if public else []
        with (
            suppress(KeyboardInterrupt),
            terminated_like_interrupted(),
            launch.open_app(settings, runner, preset, names, models_at_hand(model, preset)) as app,
        ):
            if not is_loopback(listener):
                typer.echo("whoever can reach this machine can use the app", err=True)
            about = {"model": preset.name, **({"public_url": public} if public else {})}
            text = f"app with {preset.name} on {runner.device}"
            tell_address(text, url_of(listener), arguments.json, **about)
            if public and not arguments.json:
                typer.echo(f"public address: {public}")
            serve(app.server, listener, names, app.end_streams)
    typer.echo("app ended", err=True)
