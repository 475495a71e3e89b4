# SPDX-License-Identifier: Apache-2.0
"""`da3 backend`: a process that keeps the model in memory and works for other commands and programs over HTTP."""

import os
import socket
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from da3_core.cli.arguments import BACKEND_TOKEN, Debug, Json, ServedModelOptions, flatten_arguments
from da3_core.cli.failures import FAILED, failures_reported, report, terminated_like_interrupted
from da3_core.cli.serve import served_model, tell_address, upload_limits
from da3_core.errors import InputError
from da3_core.storage.files import user_state

if TYPE_CHECKING:
    from da3_core.web.backend.backend import Backend


@dataclass(frozen=True)
class ServingArguments:
    """Who is served, and how much is kept."""

    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 serves the network.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8008
    gallery_dir: Annotated[
        Path, typer.Option(help="Folder of scenes that is shown below /gallery/, if it is there.")
    ] = Path("workspace/gallery")
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder in which callers may read and write; may be repeated.", show_default="the current folder"
        ),
    ] = None
    token: Annotated[
        str | None,
        typer.Option(
            envvar=BACKEND_TOKEN,
            help="What callers must send.",
            show_default="none; for the network, one is made up",
        ),
    ] = None
    insecure: Annotated[bool, typer.Option("--insecure", help="Serve the network without a token.")] = False
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which callers know this machine; may be repeated.", show_default="its own"),
    ] = None
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of tasks and uploads, which a backend goes on with after it ended, however it did.",
            show_default="one for each port in ~/.local/state/da3_ros; for port 0, none",
        ),
    ] = None
    queue_size: Annotated[int, typer.Option(min=1, help="Most tasks that wait.")] = 100
    retention: Annotated[
        float, typer.Option(min=10, help="Seconds for which finished tasks and their uploads are kept.")
    ] = 600.0
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Most that uploaded images take, all together.")] = 1024
    max_upload_mb_per_caller: Annotated[
        int | None,
        typer.Option(min=1, help="Most that those from one address take.", show_default="half of --max-upload-mb"),
    ] = None
    max_upload_mb_per_file: Annotated[int, typer.Option(min=1, help="Most that one of them has.")] = 256
    max_task_gb: Annotated[
        float | None,
        typer.Option(min=0.1, help="Most memory that a task may need, as predicted.", show_default="what is free"),
    ] = None
    max_task_seconds: Annotated[
        float, typer.Option(min=1, help="Most time that a task may take, or is predicted to.")
    ] = 3600.0
    json: Json = False
    debug: Debug = False


@flatten_arguments("command")
def backend(model: ServedModelOptions, arguments: ServingArguments) -> None:
    """Keep the model in memory and process what other commands send (--use-backend)."""
    with failures_reported(arguments.debug):
        try:
            _serve(model, arguments)
        except (InputError, OSError) as error:
            if arguments.debug:
                raise
            report(error)
            raise typer.Exit(FAILED) from None


def _serve(model: ServedModelOptions, arguments: ServingArguments) -> None:
    from da3_core.web.server import is_loopback, listen, require_service_packages, serve, url_of

    require_service_packages("da3 backend")
    from da3_core.web.backend.app import guarded_app
    from da3_core.web.backend.token import make_token, shared_token

    work = _make_backend(model, arguments)
    gallery = arguments.gallery_dir if arguments.gallery_dir.is_dir() else None
    with listen(arguments.host, arguments.port) as listener:
        url, port = url_of(listener), listener.getsockname()[1]
        is_open = not is_loopback(listener) and not arguments.insecure
        made_up = make_token() if is_open and not arguments.token else None
        names = [arguments.host, *(arguments.allow_host or ())]
        app = guarded_app(work, gallery, names=names, token=arguments.token or made_up)
        for root in work.options.allow_root:
            typer.echo(f"callers may read and write in {root.resolve()}", err=True)
        if made_up:
            typer.echo(
                f"callers need this token: {made_up}\n"
                f"  export {BACKEND_TOKEN}={made_up}\n"
                f"  da3 ... --use-backend --backend-url http://{socket.gethostname()}:{port}\n"
                "your own commands on this machine find it by themselves",
                err=True,
            )
        elif not is_loopback(listener) and not arguments.token:
            typer.echo("whoever can reach this machine can use the backend", err=True)
        sharing = shared_token(made_up, port) if made_up else nullcontext()
        with sharing, suppress(KeyboardInterrupt), terminated_like_interrupted():
            about = {"model": model.model, **({"token": made_up} if made_up else {})}
            tell_address(f"backend with {model.model} on {work.runner.device}", url, arguments.json, **about)
            serve(app, listener, names)
    typer.echo("backend ended", err=True)
    if not work.has_ended:
        os._exit(0)  # a thread is still in the network, and would crash when the interpreter ends under it


def _make_backend(model: ServedModelOptions, arguments: ServingArguments) -> "Backend":
    from da3_core.web.backend.backend import Backend, BackendOptions
    from da3_core.web.backend.work import TaskLimits

    _, runner = served_model(model)
    bytes_of_task = None if arguments.max_task_gb is None else arguments.max_task_gb * 1e9
    options = BackendOptions(
        allow_root=arguments.allow_root or [Path.cwd()],
        queue_size=arguments.queue_size,
        retention_seconds=arguments.retention,
        upload_limits=upload_limits(
            arguments.max_upload_mb, arguments.max_upload_mb_per_caller, arguments.max_upload_mb_per_file
        ),
        task_limits=TaskLimits(bytes_of_task, arguments.max_task_seconds),
        state_dir=_state_dir(arguments),
    )
    return Backend(runner, options)


def _state_dir(arguments: ServingArguments) -> Path | None:
    if arguments.state_dir or not arguments.port:
        return arguments.state_dir
    return user_state() / f"backend-{arguments.port}"
