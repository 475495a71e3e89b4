# SPDX-License-Identifier: Apache-2.0
"""`~/export` on a running node: files that hold the true room, no way out of its folder, a stream that goes on."""

import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from da3_ros.msg import DepthWindow
from da3_ros.srv import Export
from footage import Footage
from harness import Camera, Graph, Process, stamp_ns
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from da3_core.formats.colmap_model import read_model
from da3_core.geometry.backprojection import backproject
from da3_core.ros_data.conventions import OPTICAL_TO_MAP
from da3_core.synthetic import Walk

WINDOW, MAX_VIEWS = 3, 32
MILLIMETRE = 1e-3
EVERYTHING = "npz-mini_npz-glb-ply-depth_vis-depth_png-tum-colmap"


class Node:
    """A node that uses every image, whose exports go to `root`."""

    def __init__(self, graph: Graph, footage: Footage, root: Path):
        self.graph, self.footage, self.root = graph, footage, root
        width = footage.walk.images.shape[2]
        self.process: Process = graph.start_node(
            {
                "every_frame": "true",
                "window.size": WINDOW,
                "process_res": width,
                "export.root": root,
                "export.max_views": MAX_VIEWS,
            }
        )
        self.camera: Camera = graph.camera()

    def play(self, frames: range) -> None:
        """Returns when all of them have gone through the model."""
        images = self.footage.images([frame % len(self.footage.walk) for frame in frames])
        with self.graph.listen({"/da3/window": DepthWindow}) as inbox:
            self.camera.publish("/image", *images)
            last = stamp_ns(images[-1])
            self.graph.wait_for(
                "the last window", lambda: inbox["/da3/window"] and inbox.stamps("/da3/window")[-1] == last
            )

    def export(self, export_format: str, directory: str = "", **fields: Any) -> Export.Response:
        request = Export.Request(export_format=export_format, directory=directory, **fields)
        return self.graph.call("/da3/export", Export, request)

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.graph.call("/da3/change_state", ChangeState, request).success

    def files(self) -> set[str]:
        """Also while folders come and go, which rglob does not bear."""
        walked = ((Path(place), folders + files) for place, folders, files in os.walk(self.root))
        return {str((place / name).relative_to(self.root)) for place, names in walked for name in names}

    def stages(self) -> bool:
        return any("/.staging-" in name for name in self.files())


@pytest.fixture(scope="module")
def node(graph: Graph, footage: Footage) -> Node:
    return Node(graph, footage, graph.folder / "exports")


@pytest.fixture(scope="module")
def played(node: Node) -> Node:
    node.play(range(5))
    return node


def assert_on_surfaces(walk: Walk, unit: float, points: np.ndarray) -> None:
    """Points in the map's axes, which are those of the first camera, which saw the first frame, in map units."""
    to_room = walk.camera_to_world[0] @ OPTICAL_TO_MAP.T
    distance = walk.room.surface_distance(points / unit @ to_room[:3, :3].T + to_room[:3, 3])
    assert len(distance) > 1000
    assert distance.max() < 2 * MILLIMETRE


def unit_of(walk: Walk, arrays: Any, frame: int) -> float:
    """Map units per metre, from the first view, which saw that frame of the walk."""
    return float(np.median(arrays["depth"][0] / walk.depth_m[frame]))


def test_before_the_first_image_there_is_nothing_to_export(node: Node):
    for scope in ("window", "session"):
        answer = node.export("mini_npz", scope=scope)
        assert not answer.success
        assert answer.message == "Nothing has been inferred yet; publish images, then ask again."
    assert not node.root.exists()


def test_the_files_hold_the_room(played: Node, walk: Walk):
    answer = played.export(EVERYTHING, "a room/1")
    assert answer.success, answer.message
    assert (answer.views, answer.message) == (5, f"Wrote {len(answer.files)} files of 5 views.")
    folder = played.root / "a room/1"
    assert {Path(file) for file in answer.files} == {path for path in folder.rglob("*") if path.is_file()}

    arrays = np.load(folder / "exports/npz/results.npz")
    unit = unit_of(walk, arrays, 0)
    np.testing.assert_allclose(arrays["depth"], walk.depth_m[:5] * unit, rtol=1e-3)
    assert np.abs(arrays["image"].astype(int) - walk.images[:5]).max() <= 1
    points = backproject(arrays["depth"], arrays["intrinsics"], arrays["extrinsics"])
    assert_on_surfaces(walk, unit, points.reshape(-1, 3))

    scene = trimesh.load(folder / "scene.glb")
    to_map = np.linalg.inv(scene.metadata["hf_alignment"])
    vertices = np.asarray(scene.geometry["points"].vertices)
    assert_on_surfaces(walk, unit, vertices @ to_map[:3, :3].T + to_map[:3, 3])


def test_options_are_those_of_the_command_line(played: Node):
    given = '{"glb": {"export_depth_vis": false, "num_max_points": 77}, "colmap": {"text": true}}'
    answer = played.export(
        "glb-ply-colmap",
        "options",
        scope="window",
        num_max_points=50,
        conf_thresh_percentile=0.0,
        export_kwargs_json=given,
    )
    assert answer.success, answer.message
    assert answer.views == WINDOW
    names = {Path(file).relative_to(played.root / "options").as_posix() for file in answer.files}
    assert not any(name.startswith("depth_vis") for name in names)
    assert "sparse/0/images.txt" in names
    assert len(trimesh.load(played.root / "options/scene.glb").geometry["points"].vertices) == 77
    (cloud,) = [file for file in answer.files if file.endswith(".ply")]
    assert len(trimesh.load(cloud).vertices) == 50


def test_a_colmap_model_is_of_the_images_as_published(played: Node, walk: Walk):
    assert played.export("colmap", "sfm").success
    cameras, images = read_model(played.root / "sfm/sparse/0")
    names = sorted(f"{stamp}.png" for stamp in played.footage.frame_at)
    assert sorted(image.name for image in images) == names[:5]
    height, width = walk.images.shape[1:3]
    assert {(camera.width, camera.height) for camera in cameras.values()} == {(width, height)}


def test_the_session_grows_and_stays_bounded(played: Node, walk: Walk):
    played.play(range(5, 7))
    assert played.export("mini_npz", "growing").views == 7
    arrays = np.load(played.root / "growing/exports/mini_npz/results.npz")
    points = backproject(arrays["depth"], arrays["intrinsics"], arrays["extrinsics"])
    assert_on_surfaces(walk, unit_of(walk, arrays, 0), points.reshape(-1, 3))
    assert played.export("mini_npz", "growing", scope="window").views == WINDOW

    played.play(range(7, MAX_VIEWS + 4))
    assert played.export("mini_npz", "growing").views == (MAX_VIEWS + 4) / 2
    arrays = np.load(played.root / "growing/exports/mini_npz/results.npz")
    frames = np.arange(0, MAX_VIEWS + 4, 2) % len(walk)
    np.testing.assert_allclose(arrays["depth"] / unit_of(walk, arrays, 0), walk.depth_m[frames], rtol=1e-2)


ATTACKS = [
    "..",
    "../up",
    "a/../../up",
    "/tmp/up",
    "~/up",
    "new\nline",
    "n" * 300,
    "a/" * 3000,
    "out",
    "out/x",
]


def test_nothing_is_written_outside(played: Node):
    outside = played.root.parent / "outside"
    outside.mkdir()
    played.root.mkdir(exist_ok=True)
    (played.root / "out").symlink_to(outside)
    before = played.files()
    for attack in ATTACKS:
        answer = played.export("mini_npz", attack)
        assert not answer.success, attack
        assert answer.message
        assert len(answer.message) < 600
    assert played.files() == before
    assert not list(outside.iterdir())


REFUSED = {
    "unknown export format 'gbl'": {"export_format": "gbl"},
    "unknown export format ''": {"export_format": ""},
    "computes no gaussians": {"export_format": "mini_npz-gs_ply"},
    "computes no features": {"export_format": "feat_vis"},
    "has no option 'colour'": {"export_format": "glb", "export_kwargs_json": '{"glb": {"colour": 1}}'},
    "from 0 to 100": {"export_format": "ply", "conf_thresh_percentile": 101.0},
    "no JSON": {"export_format": "glb", "export_kwargs_json": "sky=far"},
    "by format such as": {"export_format": "glb", "export_kwargs_json": '["glb"]'},
    "The scope is 'all'": {"export_format": "glb", "scope": "all"},
    "leave the option copy_images": {
        "export_format": "colmap",
        "export_kwargs_json": '{"colmap": {"copy_images": true, "image_names": ["/etc/passwd"]}}',
    },
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_done_is_said_in_one_sentence(played: Node, reason: str):
    before = played.files()
    answer = played.export(directory="refused", **REFUSED[reason])
    assert not answer.success
    assert reason.lower() in answer.message.lower()
    assert answer.message.endswith(".")
    assert (list(answer.files), answer.views) == ([], 0)
    assert played.files() == before


@contextmanager
def largest_file(process: Process, size: int) -> Iterator[None]:
    """Writing more fails as it does on a full disk."""
    old = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, old)


def test_a_full_disk_leaves_nothing_half_written(played: Node):
    before = played.files()
    with largest_file(played.process, 200_000):
        answer = played.export("tum-npz", "full")
    assert not answer.success
    assert "File too large" in answer.message
    assert played.files() == before
    assert played.export("tum-npz", "full").success


def test_the_stream_goes_on_while_an_export_runs(played: Node):
    """Frames go in and windows come out between a request and its answer; a second request is told to wait."""
    with ThreadPoolExecutor(1) as pool, played.graph.listen({"/da3/window": DepthWindow}) as inbox:
        running = pool.submit(played.export, EVERYTHING, "meanwhile")
        played.graph.wait_for("an export at work", played.stages)
        assert "Another export is running" in played.export("tum").message
        before = played.files()
        frame = MAX_VIEWS + 4
        while not running.done():
            played.play(range(frame, frame + 1))
            frame += 1
        windows = len(inbox["/da3/window"])
        answer = running.result()
    assert answer.success, answer.message
    assert windows > 2
    assert all(name.startswith("meanwhile/.staging-") for name in before if name.startswith("meanwhile/"))
    assert not played.stages()


@pytest.mark.parametrize("replaced", ["attacked/inner", "attacked"])
def test_a_folder_that_becomes_a_link_while_an_export_runs_leads_nowhere(played: Node, tmp_path: Path, replaced: str):
    (tmp_path / "trap/inner").mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(played.export, EVERYTHING, "attacked/inner")
        played.graph.wait_for("an export at work", played.stages)
        (played.root / replaced).rename(tmp_path / "moved")
        (played.root / replaced).symlink_to(tmp_path / "trap")
        answer = running.result()
    (played.root / replaced).unlink()
    assert not answer.success
    assert "attacked/inner was moved or replaced meanwhile" in answer.message
    assert list((tmp_path / "trap").rglob("*")) == [tmp_path / "trap/inner"]
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_reset_forgets_what_could_be_exported(played: Node):
    assert played.graph.call("/da3/reset", Trigger).success
    assert "Nothing has been inferred yet" in played.export("mini_npz").message
    played.play(range(3))
    assert played.export("mini_npz", "after").views == 3


def test_a_root_that_cannot_be_written_is_survived(played: Node):
    """The root is taken at configure; the record outlives a deactivation, not a cleanup."""
    assert played.change(Transition.TRANSITION_DEACTIVATE)
    assert played.export("mini_npz", "inactive").views == 3
    assert played.change(Transition.TRANSITION_CLEANUP)
    for root, possible in (("exports", False), ("/proc/da3_exports", True)):
        parameter = Parameter("export.root", value=root).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        assert played.graph.call("/da3/set_parameters", SetParameters, request).results[0].successful
        assert played.change(Transition.TRANSITION_CONFIGURE) == possible
    assert played.change(Transition.TRANSITION_ACTIVATE)
    played.footage.cut()
    played.play(range(3))
    answer = played.export("mini_npz")
    assert not answer.success
    assert "Cannot write to /proc/da3_exports" in answer.message
    played.play(range(3, 4))
    assert played.process.end(signal.SIGINT) == 0
