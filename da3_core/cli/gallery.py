# SPDX-License-Identifier: Apache-2.0
"""`da3 gallery`: exported scenes in a browser."""

import json as json_format
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from da3_core.cli.arguments import Json
from da3_core.cli.failures import failures_reported
from da3_core.cli.serve import open_port, tell_address
from da3_core.errors import InputError


def gallery(
    gallery_dir: Annotated[
        Path, typer.Option(help="A folder with scenes in it, or with groups of scenes, as `glb` exports them.")
    ] = Path("workspace/gallery"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 shows the gallery to the network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8007,
    open_browser: Annotated[bool, typer.Option(help="Open the gallery in a browser.")] = False,
    pack: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="SCENE FILE.html",
            help="Write one scene, a folder with scene.glb in it, into a file that needs no server, and end.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show exported scenes in a browser, or pack one into a file."""
    if pack is not None:
        with failures_reported(debug=False):
            _pack(*pack, json)
        return
    if not gallery_dir.is_dir():
        raise typer.BadParameter(
            f"{gallery_dir} is no folder: give the one that holds your --export-dir folders", param_hint="--gallery-dir"
        )
    with failures_reported(debug=False):
        _serve(gallery_dir, host, port, open_browser, json)


def _pack(scene: Path, output: Path, json: bool) -> None:
    from da3_core.formats.html_scene import pack_scene
    from da3_core.storage.staging import write_atomically

    model = scene / "scene.glb"
    if not model.is_file():
        raise InputError(f"{scene} holds no scene.glb: give a folder that da3 exported with the format glb")
    write_atomically(output, pack_scene(model.read_bytes(), scene.resolve().name))
    told = {"output": str(output), "bytes": output.stat().st_size}
    typer.echo(json_format.dumps(told) if json else str(output))


def _serve(gallery_dir: Path, host: str, port: int, open_browser: bool, json: bool) -> None:
    from da3_core.web.gallery import gallery_app
    from da3_core.web.server import is_loopback, require_service_packages, serve, url_of

    require_service_packages("da3 gallery")
    with open_port(host, port) as listener:
        url = url_of(listener)
        tell_address(f"gallery of {gallery_dir}", url, json)
        if not is_loopback(listener):
            typer.echo("whoever can reach this machine can see the gallery", err=True)
        if open_browser:
            _open_browser(url)
        with suppress(KeyboardInterrupt):
            serve(gallery_app(gallery_dir), listener)
        typer.echo("gallery closed", err=True)


def _open_browser(url: str) -> None:
    """Without waiting: a browser in a terminal would hold up the server that it asks."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
