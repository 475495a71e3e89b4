# SPDX-License-Identifier: Apache-2.0
"""What others install: a wheel and an sdist with everything in them, built once; what package.xml names."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from da3_core import __version__

ROOT = Path(__file__).parents[2]
DISTRIBUTED = ("da3_core", "msg", "srv", "action", ":(glob)*.*", "LICENSE")  # `*.*`: files at the top

needs_build = pytest.mark.slow


def tracked(*names: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "--", *names], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist and of the wheel that is built from it, without asking an index for anything."""
    pytest.importorskip("build")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked(*DISTRIBUTED):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@needs_build
def test_both_distributions_pass_twine(dist: Path) -> None:
    pytest.importorskip("twine")
    files = sorted(dist.iterdir())
    assert [path.name for path in files] == [f"da3_ros-{__version__}-py3-none-any.whl", f"da3_ros-{__version__}.tar.gz"]
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@needs_build
def test_the_wheel_holds_every_file_of_the_library_and_the_messages(dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert set(tracked("da3_core")) <= names
    assert {name for name in names if "/share/da3_ros/msg/" in name} == {
        f"da3_ros-{__version__}.data/data/share/da3_ros/{name}" for name in tracked("msg")
    }
    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        inside = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"CITATION.cff", "CHANGELOG.rst", *tracked("da3_core")} <= inside


@needs_build
def test_it_installs_in_an_empty_environment_and_runs_outside_the_checkout(dist: Path, tmp_path: Path) -> None:
    """The environment holds the wheel alone; its dependencies are those of this one, last on the path."""
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", "--quiet"]
    subprocess.run([*pip, next(dist.glob("*.whl"))], check=True)
    site = next((tmp_path / "empty/lib").glob("python*/site-packages"))
    metadata = HeaderParser().parsestr((site / f"da3_ros-{__version__}.dist-info/METADATA").read_text())
    needed = [line for line in metadata.get_all("Requires-Dist") or () if "extra ==" not in line]
    assert {re.split(r"[<>=]", line)[0].lower().replace("_", "-") for line in needed} >= {
        "torch",
        "typer",
        "huggingface-hub",
    }

    ours = next(path for path in map(Path, sys.path) if (path / "torch").is_dir())
    (site / "dependencies.pth").write_text(f"{ours}\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AMENT_PREFIX_PATH")}
    code = "import da3_core, sys; from da3_core.storage.files import package_file; "
    code += "print(da3_core.__file__); print(package_file('msg/DepthWindow.msg'))"
    where = subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert [Path(line).is_relative_to(tmp_path) for line in where.stdout.splitlines()] == [True, True], where.stderr
    da3 = tmp_path / "empty/bin/da3"
    told = subprocess.run([da3, "models", "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "da3-base" in {each["name"] for each in json.loads(told.stdout)}


def test_package_xml_names_every_ros_package_that_is_imported() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    named = {each.text for each in package if each.tag in ("depend", "exec_depend")}
    for_tests = named | {each.text for each in package if each.tag == "test_depend"}
    imported = re.compile(r"^ *(?:from|import) ((?:\w+_(?:msgs|srvs|interfaces|bridge|ros)|rclpy|launch\w*))\b", re.M)

    def found(*folders: str) -> set[str]:
        files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
        return {name for path in files for name in imported.findall(path.read_text())} - {"da3_ros"}

    assert found("da3_ros", "launch") <= named
    assert found("tests") <= for_tests
    assert f"<version>{__version__}</version>" in (ROOT / "package.xml").read_text()


def test_messages_can_be_used_without_what_the_node_needs() -> None:
    pytest.importorskip("rclpy")
    code = "import sys, da3_ros.msg, da3_ros.srv, da3_ros.action; da3_ros.msg.DepthWindow(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "cv2", "scipy", "da3_core", "typer", "rclpy.node"} & set(loaded)


def test_who_cites_names_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (__version__, "Apache-2.0")
    assert cited["preferred-citation"]["authors"][0]["family-names"] == "Lin"


def test_containers_and_layouts_name_what_exists() -> None:
    compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
    gpu = yaml.safe_load((ROOT / "docker/compose.gpu.yaml").read_text())
    assert set(gpu["services"]) <= set(compose["services"]) == {"camera", "node", "foxglove", "rviz"}
    text = (ROOT / "docker/Dockerfile").read_text() + (ROOT / "docker/compose.yaml").read_text()
    for path in re.findall(r"/opt/ws/install/share/da3_ros/([\w./]+)", text):
        assert (ROOT / path).is_file()
    for path in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
        assert (ROOT / path).exists()
    arguments = set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
    assert set(compose["services"]["node"]["build"]["args"]) == arguments
    json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())


def test_the_layout_of_foxglove_shows_topics_of_the_node() -> None:
    from da3_core.ros_data.outputs import OUTPUTS

    layout = json.loads((ROOT / "config/da3.foxglove.json").read_text())
    panels = layout["configById"]
    shown = [panel["imageMode"]["imageTopic"] for name, panel in panels.items() if name.startswith("Image!")]
    shown += panels["3D!scene"]["topics"]
    ours = {output.topic("/da3") for output in OUTPUTS}
    assert {"/da3/map_points", "/da3/scan", "/da3/points"} <= set(shown) <= ours
    placed = json.dumps(layout["layout"])
    assert all(f'"{name}"' in placed for name in panels)
