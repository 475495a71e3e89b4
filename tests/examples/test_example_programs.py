# SPDX-License-Identifier: Apache-2.0
"""Every example and every cell of the notebook runs, on small inputs and a network without weights."""

import ast
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3_core.model.presets import EMBEDDED, PRESETS
from da3_core.model.weights import cached
from da3_core.synthetic import Walk

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
MODEL = "untrained:da3-small"
Run = Callable[..., str]
START_S = 60  # of a loaded machine


@pytest.fixture(scope="module")
def photos(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of two images that overlap."""
    if cached(PRESETS[EMBEDDED]) is None:
        pytest.skip("the model embedded is not installed")
    folder = tmp_path_factory.mktemp("scenes")
    for scene, first in (("kitchen", 0), ("hall", 12)):
        (folder / scene).mkdir()
        for number in (first, first + 1):
            Image.fromarray(walk.images[number]).save(folder / scene / f"{number}.png")
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run(example, *words)` in an empty folder returns what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def run(example: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [example, *map(str, words)])
        capsys.readouterr()
        with suppress(SystemExit):
            runpy.run_path(str(EXAMPLES / example), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_a_photograph_has_a_camera_matrix(run: Run, photos: Path, tmp_path: Path) -> None:
    assert "320 x 240 pixels" in run("photo_to_k.py", photos / "hall/12.png", "embedded")
    assert np.loadtxt(tmp_path / "K.txt")[:2, 2].tolist() == [160, 120]


def test_a_folder_becomes_a_cloud(run: Run, photos: Path, tmp_path: Path) -> None:
    told = run("folder_to_glb.py", photos / "kitchen", "out", "embedded")
    assert told.splitlines()[:2] == ["0.png: placed", "1.png: placed"]
    assert (tmp_path / "out/scene.html").is_file()


@pytest.mark.slow
def test_a_bag_becomes_a_bag_that_is_read(run: Run, walk: Walk, tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    from da3_core.synthetic.bag import write_bag

    write_bag(walk, tmp_path / "drive")
    settings = ("--model", MODEL, "--window", "1", "--process-res", "42", "--duration", "0.01")
    told = run("bag_to_bag.py", "drive", "depth", *settings)
    assert "in the middle of all depths" in told


@pytest.mark.slow
def test_a_backend_takes_scene_after_scene(run: Run, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    settings = ("--model", "embedded", "--device", "cpu", "--port", "0", "--json", "--allow-root", photos)
    backend = subprocess.Popen(
        [sys.executable, "-m", "da3_core.cli", "backend", *settings, "--allow-root", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert backend.stdout is not None
        url = json.loads(backend.stdout.readline())["url"]
        told = run("batch_with_backend.py", url, photos, tmp_path / "results")
    finally:
        backend.send_signal(signal.SIGINT)
        backend.wait(START_S)
    assert [line.split(":")[0] for line in told.splitlines()] == ["hall", "kitchen"]
    assert (tmp_path / "results/kitchen/scene.glb").is_file()


def test_the_listener_joins_what_has_one_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    rclpy = pytest.importorskip("rclpy")
    from sensor_msgs.msg import CameraInfo
    from sensor_msgs.msg import Image as ImageMessage

    monkeypatch.setenv("ROS_DOMAIN_ID", str(150 + os.getpid() % 60))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import depth_listener

    rclpy.init()
    try:
        listener, used = depth_listener.DepthListener(), []
        monkeypatch.setattr(listener, "use", lambda depth, image, info: used.append((depth, image, info)))
        sender = rclpy.create_node("sender")
        senders = {
            name: sender.create_publisher(kind, f"da3/{name}", 10) for name, kind in depth_listener.TOPICS.items()
        }
        while any(not each.get_subscription_count() for each in senders.values()):
            time.sleep(0.02)
        for second, topics in ((1, ["depth/image"]), (2, list(senders))):  # of the first, the rest was lost
            for topic in topics:
                message = {"depth/camera_info": CameraInfo}.get(topic, ImageMessage)()
                message.header.stamp.sec = second
                senders[topic].publish(message)
        latest = time.monotonic() + START_S
        while not used and time.monotonic() < latest:
            rclpy.spin_once(listener, timeout_sec=0.1)
        assert [message.header.stamp.sec for message in used[0]] == [2, 2, 2]

        depth = ImageMessage(height=1, width=2, data=np.array([1, 3], np.float32).tobytes())
        info = CameraInfo(k=[2.0, 0, 0, 0, 2, 0, 0, 0, 1])
        monkeypatch.undo()
        listener.use(depth, ImageMessage(height=1, width=2), info)
    finally:
        rclpy.try_shutdown()


def test_the_notebook_runs_from_the_first_cell_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "first_steps.ipynb").read_text())
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]).replace('= "auto"', f'= "{MODEL}"'), cell["id"], "exec"), names)
    assert (tmp_path / "first_steps/scene.html").is_file()


def test_every_example_says_what_it_is_for_and_how_it_is_run() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert f"examples/{path.name}" in str(ast.get_docstring(ast.parse(path.read_text())))
