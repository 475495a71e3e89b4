# SPDX-License-Identifier: Apache-2.0
"""What other sensors of a bag say of its images: metres by a LiDAR or a depth image, or by the ground; up by an Imu."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3_core.errors import InputError
from da3_core.synthetic import Walk, room_walk
from da3_core.synthetic.exact import ExactModel

pytest.importorskip("rosbags", reason="needs the package rosbags")

import bags
from bags import floats, part_of, pose_matrix, read
from test_bag_cameras import INFO, TRANSFORMS, info, mounting
from test_bag_images import IMAGE, STORE, header, image, record

CLOUD, IMU = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Imu"
FRAMES, POINTS = 3, 500
BY_DEPTH, BY_HEIGHT = 4, 5


@pytest.fixture(scope="module")
def walk() -> Walk:
    return part_of(room_walk(frames=24, size=(126, 168), seed=5), slice(0, FRAMES))


@pytest.fixture(scope="module")
def recording(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sensors are heard of one frame after the image, whose stamp they have."""
    frame_id = header(0).frame_id
    messages: list[tuple[str, str, int, Any]] = [("/tf_static", TRANSFORMS, 0, mounting("body", frame_id))]
    for frame in range(FRAMES):
        messages += [
            ("/cam/camera_info", INFO, frame, info(walk, frame)),
            ("/cam/image", IMAGE, frame, image(walk, frame)),
        ]
    messages += [("/lidar", CLOUD, 1, cloud(walk)), ("/imu", IMU, 1, imu(walk)), ("/sparse", IMAGE, 1, sparse(walk))]
    return record(tmp_path_factory.mktemp("recording") / "in", *messages)


def of_body() -> Any:
    return STORE.types["std_msgs/msg/Header"](header(0).stamp, "body")


def camera_in_body() -> np.ndarray:
    place = np.eye(4)
    place[0, 3] = mounting("", "").transforms[0].transform.translation.x
    return place


def cloud(walk: Walk) -> Any:
    rng, (height, width) = np.random.default_rng(0), walk.size
    x, y = rng.integers(width, size=POINTS), rng.integers(height, size=POINTS)
    rays = np.linalg.solve(walk.intrinsics, np.stack([x + 0.5, y + 0.5, np.ones(POINTS)]))
    in_body = (rays * walk.depth_m[0][y, x] + camera_in_body()[:3, 3:]).T.astype(np.float32)
    fields = [STORE.types["sensor_msgs/msg/PointField"](name, 4 * i, 7, 1) for i, name in enumerate("xyz")]
    data = in_body.reshape(-1).view(np.uint8)
    return STORE.types[CLOUD](of_body(), 1, POINTS, fields, False, 12, 12 * POINTS, data, True)


def imu(walk: Walk) -> Any:
    vector = STORE.types["geometry_msgs/msg/Vector3"]
    turn = Rotation.from_matrix(walk.camera_to_world[0][:3, :3]).as_quat()  # the body has the camera's axes
    orientation = STORE.types["geometry_msgs/msg/Quaternion"](*turn)
    none, unknown = vector(0.0, 0.0, 0.0), np.zeros(9)
    return STORE.types[IMU](of_body(), orientation, unknown, none, unknown, none, unknown)


def sparse(walk: Walk) -> Any:
    depth = np.where(np.random.default_rng(1).random(walk.size) < 0.05, walk.depth_m[0], 0).astype(np.float32)
    return image(walk, 0, encoding="32FC1", step=4 * walk.size[1], data=depth.reshape(-1).view(np.uint8))


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ({"scale": "depth_topic", "reference_topic": "/lidar", "map_up": "imu"}, BY_DEPTH),
        ({"scale": "depth_topic", "reference_topic": "/sparse", "map_up": "floor"}, BY_DEPTH),
        ({"scale": "camera_height", "map_up": "imu", "imu_topic": "/imu"}, BY_HEIGHT),
    ],
)
def test_metres_and_up_are_those_of_other_sensors(
    walk: Walk, recording: Path, tmp_path: Path, options: dict[str, Any], source: int
) -> None:
    height_m = float(np.median(walk.camera_to_world[:2, 2, 3]))  # the camera sways
    options |= {"window": 2, "camera_height_m": height_m, "reference_slop_s": 0.05}
    model = ExactModel(walk)  # which has another unit and another world for every window
    bags.process(recording, tmp_path / "out", model, image_topics=("/cam/image",), **options)
    content = read(tmp_path / "out")
    assert {message.scale_source for _, message in content["/da3/window"]} == {source}
    tolerance = 1e-3 if source == BY_DEPTH else 0.05
    for (_, depth), true_m in zip(content["/da3/depth/image"], walk.depth_m, strict=True):
        np.testing.assert_allclose(floats(depth), true_m, rtol=tolerance)
    for (_, pose), in_world in zip(content["/da3/pose"], walk.camera_to_world, strict=True):
        np.testing.assert_allclose(pose_matrix(pose)[2, :3], in_world[2, :3], atol=5e-3)
    assert content["/da3/map_info"][0][1].up == options["map_up"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": "depth_topic"}, "reference_topic and scale depth_topic go together"),
        ({"reference_topic": "/lidar"}, "reference_topic and scale depth_topic go together"),
        ({"scale": "depth_topic", "reference_topic": "/imu"}, "neither Image nor PointCloud2 on '/imu'"),
        ({"map_up": "imu", "imu_topic": "/lidar"}, "the bag has Imu on /imu"),
        ({"imu_topic": "/imu"}, "imu_topic came with map_up camera"),
    ],
)
def test_sensors_that_are_not_there_are_refused(
    walk: Walk, recording: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        bags.process(recording, tmp_path / "out", ExactModel(walk), image_topics=("/cam/image",), **options)
