# SPDX-License-Identifier: Apache-2.0
"""What `da3` says of itself: help, version, completion, models, formats, and what `da3 doctor` finds."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from da3_core import __version__
from da3_core.cli import COMMANDS, arguments
from da3_core.cli.examination import EXTRAS
from da3_core.cli.written import MOST_NAMED, lines
from da3_core.export import EXPORTERS
from da3_core.model.presets import PRESETS
from da3_core.model.weights import cached
from da3_core.network import build_network

ROOT = Path(__file__).parents[2]
Command = Callable[..., Result]


def test_without_a_command_there_is_help_with_every_command_under_a_heading(da3: Command) -> None:
    result = da3()
    assert (result.exit_code, result.stderr) == (0, "")
    positions = [result.stdout.index(f"\n{heading}:\n") for heading in COMMANDS]
    assert positions == sorted(positions)
    for command in (each.__name__.replace("_", "-") for commands in COMMANDS.values() for each in commands):
        assert re.search(rf"^  {command}  ", result.stdout, re.MULTILINE)


def run(*words: str, **environment: str) -> str:
    """The command as a process, which sees the width of a terminal and what a shell asks."""
    code = "from da3_core.cli import main; main()"
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code, *words], env=surroundings, capture_output=True, text=True).stdout


def test_help_is_as_wide_as_the_terminal_and_options_stand_under_headings() -> None:
    page = run("images", "--help", COLUMNS="150")
    assert 140 < max(map(len, page.splitlines())) <= 150
    headings = re.findall(r"^(\w[\w ]+):$", page, re.MULTILINE)
    assert headings == [
        "Arguments",
        "Model",
        "Inference",
        "Export",
        "Camera",
        "Results",
        "Backend",
        "Workers",
        "Options",
    ]
    assert page.index("--process-res ") < page.index("\nExport:") < page.index("--export-format")


def test_the_version_is_that_of_the_packages(da3: Command) -> None:
    assert da3("--version").stdout == f"da3 {__version__}\n"
    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"<version>{__version__}</version>" in (ROOT / "package.xml").read_text()


def test_a_shell_completes_commands_models_and_lists_of_formats() -> None:
    def completed(words: str) -> list[str]:
        return run(_DA3_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))).split()

    assert {"models", "doctor", "bag"} <= set(completed("da3 "))
    assert completed("da3 images . --model da3-b") == ["da3-base"]
    assert arguments.complete_formats("npz-gl") == ["npz-glb"]
    assert "ply-ply" not in arguments.complete_formats("ply-")


def test_models_are_listed_with_what_they_give_and_whether_they_are_here(da3: Command) -> None:
    text = da3("models").stdout
    assert [line.split()[0] for line in text.splitlines() if line[0] != " "] == ["model", *PRESETS]
    told = {each["name"]: each for each in json.loads(da3("models", "--json").stdout)}
    assert told["da3-base"]["weights_licence"] == "Apache-2.0"
    assert {name for name, each in told.items() if each["cached"]} == {n for n, p in PRESETS.items() if cached(p)}


@pytest.mark.parametrize("name", ["da3-small", "da3metric-large", "da3nested-giant-large", "da3-embedded"])
def test_sizes_of_models_are_those_of_the_networks(name: str) -> None:
    with torch.device("meta"):
        network = build_network(PRESETS[name].network)
    assert sum(each.numel() for each in network.parameters()) == PRESETS[name].parameters


def test_formats_are_listed_and_named_ones_tell_their_options(da3: Command) -> None:
    assert set(EXPORTERS) <= {line.split()[0] for line in da3("formats").stdout.splitlines()}
    text = da3("formats", "glb-tum").stdout
    assert "scene.glb" in text
    assert re.search(r"^sky +drop +drop sky pixels", text, re.MULTILINE)
    [glb] = json.loads(da3("formats", "glb", "--json").stdout)
    assert {"sky", "num_max_points"} <= {each["name"] for each in glb["options"]}
    assert da3("formats", "gbl").exit_code == 2


def test_the_doctor_says_what_would_be_chosen_and_why(da3: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = {each["name"]: each for each in json.loads(da3("doctor", "--json").stdout)}
    assert __version__ in found["da3"]["found"]
    assert found["device auto"]["found"].split(":")[0] in ("cpu", "cuda", "mps")
    assert "switched off" in found["hub"]["found"]
    assert found["model auto"]["found"].split(":")[0] in ("da3-base", "da3-embedded")
    assert found["engine auto"]["found"].split(",")[0] in ("torch", "openvino")
    text = da3("doctor").stdout
    assert all(name in text for name in found)
    assert all(each["remedy"] in text for each in found.values() if each["remedy"])


def test_the_doctor_knows_every_extra() -> None:
    _, after = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]\n")
    extras = re.findall(r"^(\w+) = \[", after.split("\n[")[0], re.MULTILINE)
    assert set(EXTRAS) == set(extras) - {"embedded", "ros", "all", "test", "dev", "training", "docs"}


def test_many_files_of_a_kind_are_one_line() -> None:
    images = [Path(f"out/depth_vis/{view:04d}.jpg") for view in range(300)]
    files = {"glb": [Path("out/scene.glb"), *images], "depth_vis": images, "tum": [Path("out/trajectory.txt")]}
    assert lines(files) == ["out/scene.glb", "out/depth_vis/*.jpg (300 files)", "out/trajectory.txt"]
    assert lines({"depth_vis": images[:MOST_NAMED]}) == [str(path) for path in images[:MOST_NAMED]]
