# SPDX-License-Identifier: Apache-2.0
"""`da3 gallery` as a command: how it begins and ends."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from gallery_server import gallery_server
from PIL import Image
from typer.testing import CliRunner, Result

from da3_core.cli.gallery import gallery
from da3_core.cli.inference import image
from da3_core.errors import InputError
from da3_core.web.server import PortError, listen, require_service_packages, url_of


def run(command: Callable[..., None], *arguments: object) -> Result:
    """A command of `da3` in this process."""
    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_what_the_command_exported_is_shown_and_ctrl_c_ends_it_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (80, 60), (90, 120, 30)).save("input.jpg")
    options = ("--model", "untrained:da3-small", "--process-res", "70", "--device", "cpu")
    exported = run(image, "input.jpg", "--export-dir", "./workspace/scene1", *options)
    assert exported.exit_code == 0, exported.output
    with gallery_server("./workspace", cwd=tmp_path) as server:
        assert server.get("/manifest.json").json() == {"groups": [{"id": "_root", "title": "Scenes"}]}
        (item,) = server.get("/manifest/_root.json").json()["items"]
        assert (item["title"], server.get(item["model"]).body[:4]) == ("scene1", b"glTF")
        code, errors = server.interrupt()
    assert (code, errors) == (0, "gallery closed\n")


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", Path(__file__)):
        result = run(gallery, "--gallery-dir", folder)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "is no folder" in result.stderr


def test_a_taken_port_ends_it_with_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run(gallery, "--gallery-dir", tmp_path, "--port", port)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: cannot listen on '127.0.0.1', port {port} (Address already in use): give another --host or --port\n"
    )


@pytest.mark.timeout(60)
def test_the_browser_is_opened_where_the_gallery_is(tmp_path: Path, make_scene: Callable[[Path], Path]) -> None:
    make_scene(tmp_path / "scene")
    visited, browser = tmp_path / "visited", tmp_path / "browser"
    os.mkfifo(visited)
    browser.write_text(f'#!/bin/sh\necho "$1" > {visited}\n')
    browser.chmod(0o755)
    with gallery_server(tmp_path, "--open-browser", BROWSER=str(browser)) as server:
        assert visited.read_text() == f"{server.url}\n"  # waits for the writer
        assert server.get("/manifest.json").status == 200


def test_whoever_shows_it_to_the_network_is_told(tmp_path: Path) -> None:
    with gallery_server(tmp_path, "--host", "0.0.0.0") as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.get("/manifest.json", Host="robot.local:8007").json() == {"groups": []}
        assert "whoever can reach this machine" in server.interrupt()[1]


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a..b"])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(PortError, match=f"cannot listen on '{host}', port 0 .*: give another host or port"):
        listen(host, 0)


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_written_in_brackets() -> None:
    try:
        listener = listen("::1", 0)
    except OSError:
        pytest.skip("IPv6 is switched off")
    with listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"da3 gallery needs the package '{package}'.*da3_ros\[service\]"):
        require_service_packages("da3 gallery")
