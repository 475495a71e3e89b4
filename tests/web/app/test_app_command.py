# SPDX-License-Identifier: Apache-2.0
"""What `da3 gradio` refuses, in one sentence and before anything is served."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from app_process import COMMAND
from typer.testing import CliRunner

from da3_core.cli import app


def test_without_gradio_a_sentence_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['gradio'] = None\n"
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'gradio' else find(name, *rest)\n"
        "from da3_core.cli import app; app(['gradio'])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == (
        "error: da3 gradio needs the package 'gradio', which is not installed: pip install \"da3_ros[app]\"\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--model-dir", "da3-tiny"), 2, "unknown model 'da3-tiny'"),
        (("--model-dir", "da3-large", "--weights-licence", "permissive"), 2, "use one of da3-small"),
        (("--cache-gs-tag", "3dgs"), 2, "add --cache-examples"),
        (("--workspace-dir", "file"), 2, "cannot make the folder file (File exists)"),
        (("--device", "tpu"), 2, "device 'tpu' is not known"),
        (("--host", "nowhere.invalid", "--port", "0"), 1, "cannot listen on 'nowhere.invalid'"),
    ],
)
def test_wrong_options_are_one_sentence(
    options: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio", reason="the web app needs `pip install gradio`")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, [*COMMAND[3:], *options])
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="the web app needs `pip install gradio`")
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(app, [*COMMAND[3:], "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert "(Address already in use): give another --host or --port" in result.stderr


def test_gaussians_of_examples_need_a_model_that_predicts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="the web app needs `pip install gradio`")
    monkeypatch.chdir(tmp_path)
    example = tmp_path / "workspace/gradio/examples/room 3dgs/1.png"
    example.parent.mkdir(parents=True)
    example.touch()
    result = CliRunner().invoke(app, [*COMMAND[3:], "--port", "0", "--cache-examples", "--cache-gs-tag", "3dgs"])
    assert result.exit_code == 2
    assert "which da3-small does not predict" in result.stderr
