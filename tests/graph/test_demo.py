# SPDX-License-Identifier: Apache-2.0
"""The demonstration with a model that knows the room: its own numbers must then be the truth, and its bag complete."""

import signal
from pathlib import Path

import numpy as np
import pytest
from harness import HERE, Graph
from PIL import Image
from rosbags.highlevel import AnyReader

from da3_core.errors import InputError
from da3_core.geometry.similarity import align_trajectories
from da3_core.synthetic import room_walk
from da3_ros.demo.children import DemoError
from da3_ros.demo.recording import Recording
from da3_ros.demo.run import BAG_TOPICS, CAMERA_SIZE, PRODUCTS, TOPICS, WALK_FRAMES, Options, run

FRAMES = 20
EXACT = (str(HERE / "exact_node.py"), "--demo")


@pytest.fixture(scope="module")
def out(domain_id: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The products of one run over those of an earlier one, beside a file that is none of them."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "bag").mkdir()
    (folder / "bag" / "old.mcap").write_bytes(b"old")
    (folder / "notes.txt").write_text("mine")
    run(Options(folder, "exact", FRAMES, process_res=168, node=EXACT))
    return folder


def test_the_products_replace_those_of_an_earlier_run_and_nothing_else(out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {*PRODUCTS, "notes.txt"}
    assert not (out / "bag" / "old.mcap").exists()
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 1200
    assert (out / "scene.glb").read_bytes()[:4] == b"glTF"


def test_the_bag_holds_every_topic_with_its_definition(out: Path) -> None:
    with AnyReader([out / "bag"]) as reader:
        found = {connection.topic: connection for connection in reader.connections}
        assert {topic.name: topic.type for topic in TOPICS} == {name: c.msgtype for name, c in found.items()}
        assert all(connection.msgcount > 0 for connection in found.values())
        assert "DepthView[] views" in found["/da3/window"].msgdef.data
        stamps = {
            topic: [
                (message.header.stamp.sec, message.header.stamp.nanosec)
                for connection, _, cdr in reader.messages([found[topic]])
                for message in (reader.deserialize(cdr, connection.msgtype),)
            ]
            for topic in ("/da3/depth/image", "/da3/points", "/camera/image_raw")
        }
    assert len(stamps["/da3/depth/image"]) >= FRAMES
    assert stamps["/da3/depth/image"][:FRAMES] == stamps["/da3/points"][:FRAMES]
    assert set(stamps["/da3/depth/image"]) <= set(stamps["/camera/image_raw"])


def test_its_numbers_are_the_truth_about_an_exact_model(out: Path) -> None:
    comparison = Recording.read(out / "bag", BAG_TOPICS).findings()
    assert len(comparison.seconds) >= FRAMES - 1  # the first may have left before all of the truth was connected
    assert comparison.trajectory_error_m < 1e-3
    assert comparison.path_length_m > 1.0
    assert comparison.cloud_error_m < 0.05
    assert comparison.depth_error < 0.02  # true depth is sampled at the nearest pixel of a larger image
    drift = comparison.estimate.camera_to_world[:, :3, 3] - comparison.truth.camera_to_world[:, :3, 3]
    assert np.abs(drift).max() < 0.02


@pytest.mark.parametrize(
    ("model", "process_res", "node", "message"),
    [
        ("exact", 3, EXACT, r"the node ended with status 1 before the node was active(?s:.*)process_res is 3"),
        ("/nowhere", 252, ("-m", "da3_ros.node"), r"the node failed before the node was active(?s:.*)/nowhere"),
    ],
)
def test_a_node_that_fails_is_reported_at_once_and_leaves_nothing(
    domain_id: int, tmp_path: Path, model: str, process_res: int, node: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "demo"
    with pytest.raises(DemoError, match=message):
        run(Options(out, model, FRAMES, process_res, node=node))
    assert not out.exists()


def test_pictures_go_the_same_way_without_a_truth(domain_id: int, tmp_path: Path) -> None:
    folder, out = tmp_path / "my images", tmp_path / "demo"
    folder.mkdir()
    walk, frames = room_walk(WALK_FRAMES, CAMERA_SIZE), [0, 3, 6, 9, 12]
    for i, frame in enumerate(frames):
        Image.fromarray(walk.images[frame]).save(folder / f"{i + 8}.png")
    assert run(Options(out, "exact", FRAMES, process_res=168, pictures=folder, node=EXACT)) == list(PRODUCTS)
    findings = Recording.read(out / "bag", BAG_TOPICS).findings()
    assert findings.truth is None
    assert findings.estimate.placed.tolist() == [True] * 5
    alignment = align_trajectories(findings.estimate.camera_to_world, walk.camera_to_world[frames])
    assert alignment.residual < 1e-3


@pytest.mark.parametrize(
    ("content", "message"), [(None, "is not a folder"), ({}, "no images in"), ({"a.png": b"?"}, "a.png: not an image")]
)
def test_a_folder_without_pictures_is_refused(
    domain_id: int, tmp_path: Path, content: dict[str, bytes] | None, message: str
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "demo"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        run(Options(out, "exact", FRAMES, pictures=folder, node=EXACT))
    assert not out.exists()


def test_a_refusal_is_one_sentence_and_a_status(graph: Graph, tmp_path: Path) -> None:
    demo = graph.start("demo", "-m", "da3_ros.demo", "--out", str(tmp_path), "--images", str(tmp_path / "absent"))
    assert demo.wait() == 1
    assert "absent is not a folder: give a folder of images" in demo.log
    assert "Traceback" not in demo.log


def test_interrupted_it_leaves_nothing(graph: Graph, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    demo = graph.start("demo", "-m", "da3_ros.demo", "--out", str(out))
    graph.wait_for("the node to start", lambda: "starting the node" in demo.log)
    assert demo.end(signal.SIGINT) == 130
    assert "interrupted; nothing was written" in demo.log
    assert not out.exists()
