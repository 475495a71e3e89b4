# SPDX-License-Identifier: Apache-2.0
"""Calibration in bags: lenses with distortion, images that are rectified already, half-wrong messages, stereo pairs."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.stream.record import SessionRecord
from da3_core.synthetic import Walk, room_walk
from da3_core.synthetic.exact import ExactModel

pytest.importorskip("rosbags", reason="needs the package rosbags")

import bags
from bags import part_of, read, stamps, true_pose
from test_bag_images import IMAGE, STORE, header, image, record

INFO, TRANSFORMS = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
FRAMES = 4
HALF = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # CameraInfo counts from the centres of pixels
BASELINE_M = 0.12
LENSES = {
    "plumb_bob": [-0.08, 0.02, 1e-3, -1e-3, 0.0],
    "rational_polynomial": [0.3, 0.05, 0.0, 1e-3, 0.0, 0.36, 0.06, 0.0],
    "equidistant": [0.02, -0.01, 0.0, 0.0],
}


@pytest.fixture(scope="module")
def walk() -> Walk:
    return part_of(room_walk(frames=24, size=(126, 168), seed=5), slice(0, FRAMES))


def info(walk: Walk, frame: int, **changes: Any) -> Any:
    """CameraInfo of the walk's own camera, raw and rectified alike."""
    k = walk.intrinsics - HALF
    fields = {
        "header": header(frame),
        "height": walk.size[0],
        "width": walk.size[1],
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": k.ravel(),
        "r": np.eye(3).ravel(),
        "p": np.c_[k, np.zeros(3)].ravel(),
        "binning_x": 0,
        "binning_y": 0,
        "roi": STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    }
    return STORE.types[INFO](**{**fields, **changes})


def raw_image(walk: Walk, frame: int, model: str, k_raw: np.ndarray) -> np.ndarray:
    """What a lens makes of an image of the walk, by OpenCV: every raw pixel shows what its ray meets."""
    height, width = walk.size
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 1, 2).astype(np.float64)
    d, pinhole = np.array(LENSES[model]), walk.intrinsics - HALF
    if model == "equidistant":
        seen = cv2.fisheye.undistortPoints(pixels, k_raw, d, P=pinhole)
    else:
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9)
        seen = cv2.undistortPointsIter(pixels, k_raw, d, None, pinhole, criteria)
    seen = seen.reshape(height, width, 2).astype(np.float32)
    return cv2.remap(walk.images[frame], seen, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def bag_of(folder: Path, walk: Walk, topic: str, *infos: Any, info_topic: str = "", images: Any = None) -> Path:
    """One image and its CameraInfo after another; the last CameraInfo is repeated."""
    info_topic = info_topic or topic.rpartition("/")[0] + "/camera_info"
    messages = []
    for frame in range(FRAMES):
        each = infos[min(frame, len(infos) - 1)]
        each.header = header(frame)
        messages.append((info_topic, INFO, frame, each))
        pixels = walk.images[frame] if images is None else images[frame]
        messages.append((topic, IMAGE, frame, image(walk, frame, data=pixels.reshape(-1))))
    return record(folder, *messages)


def published_k(content: bags.Messages) -> np.ndarray:
    (k,) = {tuple(message.k) for _, message in content["/da3/depth/camera_info"]}
    assert all(not np.any(message.d) for _, message in content["/da3/depth/camera_info"])
    return np.reshape(k, (3, 3)) + HALF


@pytest.mark.parametrize("model", LENSES)
def test_images_of_a_lens_are_rectified_to_the_camera_of_p(walk: Walk, tmp_path: Path, model: str) -> None:
    k_raw = np.array([[110.0, 0, 85], [0, 111, 61], [0, 0, 1]])
    raw = [raw_image(walk, frame, model, k_raw) for frame in range(FRAMES)]
    calibration = info(walk, 0, distortion_model=model, d=np.array(LENSES[model]), k=k_raw.ravel())
    folder = bag_of(tmp_path / "in", walk, "/cam/image_raw", calibration, images=raw)
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True))
    assert (summary.frames, summary.refused, summary.calibration_refused) == (FRAMES, {}, {})
    content = read(tmp_path / "out")
    np.testing.assert_allclose(published_k(content), walk.intrinsics)
    for frame, (_, message) in enumerate(content["/da3/image_rect"]):
        inner = np.s_[20:-20, 20:-20]
        rectified = message.data.reshape(*walk.size, 3)[inner].astype(int)
        before = np.abs(raw[frame][inner].astype(int) - walk.images[frame][inner]).mean()
        after = np.abs(rectified - walk.images[frame][inner]).mean()
        assert after < 0.25 * before


@pytest.mark.parametrize(
    ("topic", "info_topic", "options", "expected"),
    [
        ("/left/image_rect", "", {}, "p"),
        ("/left/image_rect", "", {"image_is_rectified": "no"}, "rectified"),
        ("/left/image_raw", "", {"image_is_rectified": "yes"}, "p"),
        ("/left/image_raw", "", {}, "rectified"),
        ("/left/image_rect", "/left/camera_info_rect", {}, "p"),
        ("/left/image_raw", "/left/camera_info_rect", {}, "model"),
    ],
)
def test_rectified_images_have_the_camera_of_p_and_stay(
    walk: Walk, tmp_path: Path, topic: str, info_topic: str, options: Any, expected: str
) -> None:
    p = (walk.intrinsics - HALF) * np.array([[1.01, 1, 1], [1, 1.01, 1], [1, 1, 1]])
    calibration = info(walk, 0, d=np.array([-0.01, 0.0, 0, 0, 0]), p=np.c_[p, np.zeros(3)].ravel())
    folder = bag_of(tmp_path / "in", walk, topic, calibration, info_topic=info_topic)
    bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True), **options)
    content = read(tmp_path / "out")
    assert stamps(content) == list(range(FRAMES))
    same = np.array_equal(content["/da3/image_rect"][0][1].data.reshape(*walk.size, 3), walk.images[0])
    assert same == (expected != "rectified")
    np.testing.assert_allclose(published_k(content), walk.intrinsics if expected == "model" else p + HALF, atol=1e-3)


def test_half_wrong_calibration_is_told_by_reason_and_counted_and_the_images_are_used(
    walk: Walk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    k = (walk.intrinsics - HALF).ravel()
    without_corner, leaning = k.copy(), k.copy()
    without_corner[8], leaning[1] = 0, 60
    infos = [info(walk, 0, k=matrix) for matrix in (without_corner, without_corner, leaning, k)]
    folder = bag_of(tmp_path / "in", walk, "/cam/image_raw", *infos)
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True))
    assert (summary.frames, summary.refused) == (FRAMES, {})
    assert summary.calibration_refused == {"camera_info_matrix": 2, "camera_info_skew": 1}
    warnings = [each.message for each in caplog.records if "CameraInfo" in each.message]
    assert len(warnings) == 2
    assert "with a lower left that is not 0, 0 0 1" in warnings[0]
    assert "with a skew of 60" in warnings[1]


def test_with_camera_info_alone_half_wrong_calibration_leaves_images_out(walk: Walk, tmp_path: Path) -> None:
    leaning = (walk.intrinsics - HALF).ravel()
    leaning[1] = 60
    folder = bag_of(tmp_path / "in", walk, "/cam/image_raw", info(walk, 0, k=leaning), info(walk, 0))
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True), intrinsics="camera_info")
    assert (summary.frames, summary.refused) == (FRAMES - 1, {"camera_info_skew": 1})
    assert "1 because cameraInfo has as K" in summary.refusals


def test_a_size_of_zero_is_unknown(walk: Walk, tmp_path: Path) -> None:
    folder = bag_of(tmp_path / "in", walk, "/cam/image_raw", info(walk, 0, height=0, width=0))
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True), intrinsics="camera_info")
    assert summary.frames == FRAMES
    np.testing.assert_allclose(published_k(read(tmp_path / "out")), walk.intrinsics)


def stereo_bag(folder: Path, walk: Walk, frame_ids: tuple[str, str], transforms: bool = False) -> Path:
    """Every second image of the walk, which goes on sideways, is that of the right camera: the frames 0 1, then 2 3."""
    messages: list[tuple[str, str, int, Any]] = []
    if transforms:
        messages.append(("/tf_static", TRANSFORMS, 0, mounting("base_link", frame_ids[0])))
    for frame in range(0, FRAMES, 2):
        for side, (name, frame_id) in enumerate(zip(("left", "right"), frame_ids, strict=True)):
            calibration, pixels = info(walk, frame), image(walk, frame + side)
            calibration.p[3] = -side * BASELINE_M * calibration.p[0]
            calibration.header = pixels.header = STORE.types["std_msgs/msg/Header"](header(frame).stamp, frame_id)
            messages += [(f"/{name}/camera_info", INFO, frame, calibration)]
            messages += [(f"/{name}/image_rect", IMAGE, frame, pixels)]
    return record(folder, *messages)


def mounting(parent: str, child: str) -> Any:
    types = STORE.types
    vector, quaternion = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Quaternion"]
    transform = types["geometry_msgs/msg/Transform"](vector(0.3, 0.0, 0.0), quaternion(0.0, 0.0, 0.0, 1.0))
    top = types["std_msgs/msg/Header"](header(0).stamp, parent)
    return types[TRANSFORMS]([types["geometry_msgs/msg/TransformStamped"](top, child, transform)])


@pytest.mark.parametrize(
    ("frame_ids", "transforms"), [(("cam", "cam"), False), (("cam", "cam"), True), (("left", "right"), False)]
)
def test_the_baseline_of_a_stereo_pair_gives_metres_and_tells_its_cameras_apart(
    walk: Walk, tmp_path: Path, frame_ids: tuple[str, str], transforms: bool
) -> None:
    folder = stereo_bag(tmp_path / "in", walk, frame_ids, transforms)
    record_ = SessionRecord(10)
    bags.process(
        *(folder, tmp_path / "out", ExactModel(walk)),
        image_topics=("/left/image_rect", "/right/image_rect"),
        window=1,
        record=record_,
    )
    content = read(tmp_path / "out")
    windows = [message for _, message in content["/da3/window"]]
    assert {window.scale_source for window in windows} == {3}  # by poses
    left, right = (content[f"/da3/{side}/pose"][0][1].pose.position for side in ("left", "right"))
    between = np.linalg.norm([left.x - right.x, left.y - right.y, left.z - right.z])
    assert between == pytest.approx(BASELINE_M, abs=1e-6)
    true = np.linalg.norm(true_pose(walk, 1)[:3, 3] - true_pose(walk, 0)[:3, 3])
    depth = content["/da3/left/depth/image"][0][1].data.view(np.float32).reshape(walk.size)
    np.testing.assert_allclose(depth, walk.depth_m[0] * BASELINE_M / true, rtol=1e-3)
    names = record_.prediction().image_names
    assert names is not None
    assert {name.rsplit("_", 1)[0] for name in names} == (
        {"cam_left", "cam_right"} if frame_ids[0] == "cam" else {"left", "right"}
    )


def test_places_in_a_rig_that_nothing_tells_are_refused_where_they_are_asked_for(walk: Walk, tmp_path: Path) -> None:
    messages = [
        (f"/{side}/image_rect", IMAGE, frame, image(walk, frame + i))
        for frame in (0, 2)
        for i, side in enumerate(("left", "right"))
    ]
    for _, _, frame, message in messages:
        message.header = header(frame)
    folder = record(tmp_path / "in", *messages)
    with pytest.raises(InputError, match="nor has their CameraInfo a baseline"):
        bags.process(
            *(folder, tmp_path / "out", ExactModel(walk)),
            image_topics=("/left/image_rect", "/right/image_rect"),
            pose_source="rig",
        )
