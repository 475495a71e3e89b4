# SPDX-License-Identifier: Apache-2.0
"""Bags that know where their cameras are: rigs by /tf_static, poses by /tf, against the true room.

The model draws another unit and world for every window, so metres can only come from the bag.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.stream.record import SessionRecord
from da3_core.synthetic import Walk
from da3_core.synthetic.bag import START_NS
from da3_core.synthetic.exact import ExactModel
from da3_core.synthetic.path import orbit
from da3_core.synthetic.render import Camera, LitScene
from da3_core.synthetic.room import furnished_room

pytest.importorskip("rosbags", reason="needs the package rosbags")

import bags
from bags import MILLIMETRE, PERIOD_NS, floats, matrix, pose_matrix, read, stamp, stamps
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from da3_core.bag.topics import camera_names
from da3_core.ros_data.stamp_matcher import StampMatcher

SIZE = (126, 168)
INTRINSICS = np.array([[120.0, 0, 84], [0, 120, 63], [0, 0, 1]])
INSTANTS = 6
DELAY_NS = 3_000_000  # of the right camera
CAMERAS = ("left", "right")
TOPICS = tuple(f"/rig/{camera}/image_raw" for camera in CAMERAS)
STORE = get_typestore(Stores.LATEST)


def placed(x: float, y: float, z: float, *euler_deg: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", euler_deg or (0, 0, 0), degrees=True).as_matrix()
    pose[:3, 3] = x, y, z
    return pose


LEFT_IN_BODY = placed(0.2, 0.1, 0.3, -90, 0, -90)  # an optical frame that looks along the x of its body
RIGHT_IN_BODY = placed(0.25, -0.3, 0.3, -88, 3, -95)


@pytest.fixture(scope="module")
def walk() -> Walk:
    """Left and right by turns: at the same time, fixed to each other."""
    left_in_world = orbit(24)[:INSTANTS]
    right_in_world = left_in_world @ np.linalg.inv(LEFT_IN_BODY) @ RIGHT_IN_BODY
    path = np.stack([left_in_world, right_in_world], axis=1).reshape(-1, 4, 4)
    scene = LitScene.prepare(furnished_room(), 5)
    images, depth_m = zip(*(scene.render(Camera(INTRINSICS, camera), SIZE) for camera in path), strict=True)
    return Walk(np.stack(images), np.stack(depth_m), path, INTRINSICS, furnished_room(), 5)


def make(kind: str, **fields: Any) -> Any:
    return STORE.types[kind](**fields)


def header(time_ns: int, frame_id: str) -> Any:
    time = make("builtin_interfaces/msg/Time", sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    return make("std_msgs/msg/Header", stamp=time, frame_id=frame_id)


def transforms(time_ns: int, *edges: tuple[str, str, np.ndarray]) -> Any:
    """Parent, child, pose of the child in the parent."""
    stamped = []
    for parent, child, pose in edges:
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        turn = make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
        shift = make("geometry_msgs/msg/Vector3", **dict(zip("xyz", pose[:3, 3], strict=True)))
        transform = make("geometry_msgs/msg/Transform", translation=shift, rotation=turn)
        stamped.append(
            make(
                "geometry_msgs/msg/TransformStamped",
                header=header(time_ns, parent),
                child_frame_id=child,
                transform=transform,
            )
        )
    return make("tf2_msgs/msg/TFMessage", transforms=stamped)


def image(time_ns: int, camera: str, pixels: np.ndarray) -> Any:
    return make(
        "sensor_msgs/msg/Image",
        header=header(time_ns, f"{camera}_optical"),
        height=SIZE[0],
        width=SIZE[1],
        encoding="rgb8",
        is_bigendian=0,
        step=SIZE[1] * 3,
        data=pixels.ravel(),
    )


def record(
    walk: Walk,
    folder: Path,
    *,
    is_tied: bool = True,
    without_right: Collection[int] = (),
    without_pose: Collection[int] = (),
) -> Path:
    """Transforms are recorded 60 ms after the images that they are about, and the body stands still meanwhile."""
    kinds = dict.fromkeys(TOPICS, "sensor_msgs/msg/Image")
    kinds |= dict.fromkeys(("/tf", "/tf_static"), "tf2_msgs/msg/TFMessage")
    writer = rosbag2.Writer(folder, version=9, storage_plugin=bags.MCAP)
    with writer:
        to = {topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in kinds.items()}

        def write(topic: str, time_ns: int, message: Any) -> None:
            writer.write(to[topic], time_ns, STORE.serialize_cdr(message, kinds[topic]))

        sides = [("body", "left_optical", LEFT_IN_BODY), ("body", "right_optical", RIGHT_IN_BODY)]
        write("/tf_static", START_NS, transforms(START_NS, *sides[: 1 + is_tied]))
        for k in range(INSTANTS):
            now = START_NS + k * PERIOD_NS
            write(TOPICS[0], now, image(now, "left", walk.images[2 * k]))
            if k not in without_right:
                write(TOPICS[1], now + DELAY_NS, image(now + DELAY_NS, "right", walk.images[2 * k + 1]))
            body_in_world = walk.camera_to_world[2 * k] @ np.linalg.inv(LEFT_IN_BODY)
            for then in (now, now + DELAY_NS) if k not in without_pose else ():
                write("/tf", then + 60_000_000, transforms(then, ("world", "body", body_in_world)))
    return folder


@pytest.fixture(scope="module")
def recording(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(walk, tmp_path_factory.mktemp("recording") / "bag")


def assert_true_depth(content: bags.Messages, topic: str, truth: np.ndarray, atol: float = 2 * MILLIMETRE) -> None:
    for message, true in zip((message for _, message in content[topic]), truth, strict=True):
        np.testing.assert_allclose(floats(message), true, atol=atol)


def test_rig_is_one_map_in_the_metres_of_its_mounting(walk: Walk, recording: Path, tmp_path: Path) -> None:
    model = ExactModel(walk, seed=3)
    summary = bags.process(recording, tmp_path / "out", model, image_topics=TOPICS, window=3, points=bags.POINTS)
    assert (summary.frames, summary.maps, summary.refused) == (2 * INSTANTS, 1, {})
    content = read(tmp_path / "out")
    in_left = np.linalg.inv(LEFT_IN_BODY) @ RIGHT_IN_BODY
    for side, camera in enumerate(CAMERAS):
        for name in ("depth/image", "depth/image_raw", "points", "pose", "odometry", "depth/camera_info"):
            assert stamps(content, f"/da3/{camera}/{name}") == list(range(INSTANTS)), name
        assert len(content[f"/da3/{camera}/path"][-1][1].poses) == INSTANTS
        first = content[f"/da3/{camera}/depth/image"][0][1]
        assert (stamp(first), first.header.frame_id) == (START_NS + side * DELAY_NS, f"{camera}_optical")
        assert_true_depth(content, f"/da3/{camera}/depth/image", walk.depth_m[side::2])
    for k, ((_, left), (_, right)) in enumerate(
        zip(content["/da3/left/pose"], content["/da3/right/pose"], strict=True)
    ):
        np.testing.assert_allclose(np.linalg.inv(pose_matrix(left)) @ pose_matrix(right), in_left, atol=1e-5)
        np.testing.assert_allclose(pose_matrix(left), bags.true_pose(walk, 2 * k), atol=2 * MILLIMETRE)
    windows = [message for _, message in content["/da3/window"]]
    assert [len(window.views) for window in windows] == [6] * (INSTANTS - 2)
    assert {window.scale_source for window in windows} == {windows[0].SCALE_POSES}
    # The body is the root of both cameras and is placed once per frame set.
    edges = [(t.header.frame_id, t.child_frame_id) for _, m in content["/tf"] for t in m.transforms]
    assert edges == [("da3_map", "world")] * INSTANTS


def test_rig_is_exported_with_both_cameras_at_the_same_instants(walk: Walk, recording: Path, tmp_path: Path) -> None:
    kept = SessionRecord(INSTANTS, "longest_map")  # half of the views
    bags.process(recording, tmp_path / "out", ExactModel(walk), image_topics=TOPICS, record=kept)
    prediction, frame_sets = kept.prediction(), range(0, INSTANTS, 2)
    assert prediction.image_names == tuple(
        f"{camera}_optical_{START_NS + k * PERIOD_NS + side * DELAY_NS}.png"
        for k in frame_sets
        for side, camera in enumerate(CAMERAS)
    )
    frames = [2 * k + side for k in frame_sets for side in range(2)]
    np.testing.assert_allclose(prediction.depth, walk.depth_m[frames], atol=2 * MILLIMETRE)


def test_rig_goes_on_past_a_missing_image(walk: Walk, tmp_path: Path) -> None:
    folder = record(walk, tmp_path / "in", without_right=[2])
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk), image_topics=TOPICS, every=2)
    assert (summary.frames, summary.refused) == (6, {"partner": 1})
    assert stamps(read(tmp_path / "out"), "/da3/left/depth/image") == [0, 3, 5]


def test_cameras_that_nothing_ties_together_are_left_to_the_model(
    walk: Walk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = record(walk, tmp_path / "in", is_tied=False)
    with pytest.raises(InputError, match="does not tie the cameras left_optical, right_optical together"):
        bags.process(folder, tmp_path / "out", ExactModel(walk), image_topics=TOPICS, pose_source="rig")
    bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True), image_topics=TOPICS)
    assert "the model says how the cameras stand" in caplog.text
    content = read(tmp_path / "out")
    assert_true_depth(content, "/da3/right/depth/image", walk.depth_m[1::2])
    edges = {(t.header.frame_id, t.child_frame_id) for _, m in content["/tf"] for t in m.transforms}
    assert edges == {("da3_map", "world"), ("da3_map", "right_optical")}


@pytest.mark.parametrize("topics", [TOPICS, TOPICS[:1]], ids=["rig", "one camera"])
def test_poses_of_the_bag_are_the_map_and_its_metres(
    walk: Walk, recording: Path, tmp_path: Path, topics: tuple[str, ...]
) -> None:
    choices = {"image_topics": topics, "pose_source": "tf", "odom_frame": "world"}
    summary = bags.process(recording, tmp_path / "out", ExactModel(walk, seed=1), **choices)
    assert (summary.maps, summary.without_pose) == (1, 0)
    content = read(tmp_path / "out")
    for side, camera in enumerate(CAMERAS[: len(topics)]):
        namespace = f"/da3/{camera}" if len(topics) > 1 else "/da3"
        assert_true_depth(content, f"{namespace}/depth/image", walk.depth_m[side::2])
        for (_, pose), true in zip(content[f"{namespace}/pose"], walk.camera_to_world[side::2], strict=True):
            np.testing.assert_allclose(pose_matrix(pose), true, atol=1e-6)
    for _, message in content["/tf"]:
        [edge] = message.transforms
        assert (edge.header.frame_id, edge.child_frame_id) == ("da3_map", "world")
        identity = matrix(edge.transform.translation, edge.transform.rotation)
        np.testing.assert_allclose(identity, np.eye(4), atol=1e-9)
    window = content["/da3/window"][0][1]
    assert window.scale_source == window.SCALE_POSES
    assert window.alignment_residual != window.alignment_residual  # nothing before it
    assert content["/da3/window"][1][1].alignment_residual < 1e-4


def test_images_without_a_pose_are_placed_by_their_neighbours_or_left_out(walk: Walk, tmp_path: Path) -> None:
    folder = record(walk, tmp_path / "in", without_pose=[5])
    choices = {"image_topics": TOPICS[:1], "pose_source": "tf", "odom_frame": "world", "max_extrapolation_s": 0.05}
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, seed=1), **choices)
    assert (summary.frames, summary.maps, summary.without_pose) == (INSTANTS, 1, 1)
    content = read(tmp_path / "out")
    assert_true_depth(content, "/da3/depth/image", walk.depth_m[::2])
    np.testing.assert_allclose(pose_matrix(content["/da3/pose"][-1][1]), walk.camera_to_world[10], atol=2 * MILLIMETRE)
    summary = bags.process(folder, tmp_path / "dropped", ExactModel(walk), pose_required=True, **choices)
    assert (summary.frames, summary.refused, summary.without_pose) == (INSTANTS - 1, {"pose": 1}, 0)


def test_a_part_has_the_transforms_before_and_after_it(walk: Walk, tmp_path: Path) -> None:
    folder = record(walk, tmp_path / "in", without_pose=[3, 4, 5])
    choices = {"image_topics": TOPICS[:1], "pose_source": "tf", "odom_frame": "world", "max_extrapolation_s": 0.15}
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk), start_s=0.29, pose_required=True, **choices)
    assert (summary.frames, summary.refused) == (1, {"pose": 2})
    bags.process(folder, tmp_path / "start", ExactModel(walk), duration_s=0.23, **choices)
    pose = read(tmp_path / "start")["/da3/pose"][2][1]
    np.testing.assert_allclose(pose_matrix(pose), walk.camera_to_world[4], atol=1e-6)


def test_choices_that_cannot_be_met_are_refused_at_once(walk: Walk, recording: Path, tmp_path: Path) -> None:
    for choices, reason in (
        ({}, "several topics with images, /rig/left/image_raw, /rig/right/image_raw: name one with image_topics"),
        ({"pose_source": "tf", "image_topics": TOPICS}, "it has body, left_optical, right_optical, world"),
        ({"pose_source": "tf", "scale": "model"}, "which scale model contradicts"),
        ({"pose_source": "tf", "metres_per_unit": 2.0}, "which metres_per_unit 2 contradicts"),
        ({"pose_source": "rig", "image_topics": TOPICS[:1]}, "give image_topics more than once"),
        ({"pose_required": True}, "it needs tf"),
        ({"image_topics": TOPICS[:1] * 2}, "twice"),
        ({"image_topics": TOPICS, "camera_info_topics": ("/info",)}, "1 camera_info_topics for 2 image_topics"),
    ):
        with pytest.raises(InputError, match=reason):
            bags.process(recording, tmp_path / "out", ExactModel(walk), **choices)
    assert not list(tmp_path.iterdir())


class At:
    def __init__(self, stamp_ns: int) -> None:
        self.stamp_ns = stamp_ns


def matched(slop_ns: int, arrivals: list[tuple[int, int]], cameras: int = 2) -> tuple[list[tuple[int, ...]], int]:
    """Groups of stamps, and how many found no others, of `(camera, stamp)`."""
    matcher: StampMatcher[At] = StampMatcher(cameras, slop_ns)
    groups = [tuple(at.stamp_ns for at in group) for camera, at in arrivals for group in matcher.put(camera, At(at))]
    matcher.finish()
    return groups, matcher.unmatched


def test_stamps_find_each_other_through_jitter_losses_and_a_new_beginning() -> None:
    assert matched(0, [(0, 1), (0, 2), (0, 2)], cameras=1) == ([(1,), (2,), (2,)], 0)
    late = [(0, 0), (0, 10), (0, 20), (1, 1), (1, 11), (1, 21)]
    assert matched(2, late) == ([(0, 1), (10, 11), (20, 21)], 0)
    assert matched(2, [(0, 0), (1, 10), (0, 10), (0, 20), (1, 30), (0, 30)]) == ([(10, 10), (30, 30)], 2)
    again = [(0, 100), (1, 100), (1, 110), (0, 0), (1, 1), (0, 10), (1, 11)]
    assert matched(2, again) == ([(100, 100), (0, 1), (10, 11)], 1)
    silent = [(0, at) for at in range(0, 1000, 10)]
    assert matched(2, [*silent, (1, 990)]) == ([(990, 990)], 99)


def test_names_of_cameras_are_what_tells_their_topics_apart() -> None:
    for topics, names in (
        (["/camera/image_raw"], ("",)),
        (["/rig/left/image_raw", "/rig/right/image_raw"], ("left", "right")),
        (["/left_image", "/right_image/compressed"], ("left_image", "right_image")),
        (["/stereo/left/image", "/front/image"], ("stereo/left", "front")),
        (["/a/image", "/a/image/compressed"], ("image", "image/compressed")),
    ):
        assert camera_names(topics) == names
