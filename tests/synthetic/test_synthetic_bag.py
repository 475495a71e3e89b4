# SPDX-License-Identifier: Apache-2.0
"""The bag of a walk, read back by another road than it was written."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3_core.errors import InputError
from da3_core.synthetic import Walk
from da3_core.synthetic.bag import TOPICS, write_bag

rosbags = pytest.importorskip("rosbags.highlevel", reason="needs the package rosbags")


def first_frames(walk: Walk, count: int) -> Walk:
    return replace(
        walk,
        images=walk.images[:count],
        depth_m=walk.depth_m[:count],
        camera_to_world=walk.camera_to_world[:count],
    )


def read(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Time in the bag and message, by topic."""
    content: dict[str, list[tuple[int, Any]]] = {}
    with rosbags.AnyReader([folder]) as reader:
        for connection, time_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            content.setdefault(connection.topic, []).append((time_ns, message))
    return content


def matrix(message: Any) -> np.ndarray:
    transform = message.transforms[0].transform
    t, q = transform.translation, transform.rotation
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), (t.x, t.y, t.z)
    return result


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bag_holds_the_walk(walk: Walk, tmp_path: Path, storage: Literal["mcap", "sqlite3"]) -> None:
    short = first_frames(walk, 3)
    start_ns = 1_700_000_000_999_999_999
    folder = write_bag(short, tmp_path / "bag", rate_hz=30, storage=storage, start_ns=start_ns)
    assert list(tmp_path.iterdir()) == [folder]  # nothing temporary is left
    content = read(folder)
    assert set(content) == set(TOPICS)
    [(_, mounting)] = content["/tf_static"]

    for frame in range(3):
        stamp_ns = start_ns + frame * 33_333_333
        at = {topic: messages[frame] for topic, messages in content.items() if topic != "/tf_static"}
        message = {topic: each for topic, (_, each) in at.items()}
        assert {time_ns for time_ns, _ in at.values()} == {stamp_ns}
        headers = [getattr(each, "header", None) or each.transforms[0].header for each in message.values()]
        assert {header.stamp.sec * 10**9 + header.stamp.nanosec for header in headers} == {stamp_ns}

        image, depth = message["/camera/image_raw"], message["/camera/depth"]
        assert (image.encoding, image.step, depth.encoding, depth.step) == ("rgb8", 960, "32FC1", 1280)
        np.testing.assert_array_equal(image.data.reshape(240, 320, 3), walk.images[frame])
        np.testing.assert_array_equal(depth.data.view(np.float32).reshape(240, 320), walk.depth_m[frame])

        info = message["/camera/camera_info"]
        half_pixel = [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        np.testing.assert_allclose(info.k.reshape(3, 3) + half_pixel, walk.intrinsics)
        np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], info.k.reshape(3, 3))

        true = walk.camera_to_world[frame]
        two_metres_ahead = matrix(message["/tf"]) @ matrix(mounting) @ [0, 0, 2, 1]
        np.testing.assert_allclose(two_metres_ahead[:3], true[:3, 3] + 2 * true[:3, 2], atol=1e-9)
        position, q = message["/ground_truth/pose"].pose.position, message["/ground_truth/pose"].pose.orientation
        np.testing.assert_allclose([position.x, position.y, position.z], true[:3, 3])
        np.testing.assert_allclose(Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), true[:3, :3], atol=1e-9)


def test_existing_folder_and_bad_options_are_refused(walk: Walk, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists"):
        write_bag(walk, tmp_path)
    with pytest.raises(InputError, match="storage is 'zip'"):
        write_bag(walk, tmp_path / "bag", storage="zip")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rate_hz is 0"):
        write_bag(walk, tmp_path / "bag", rate_hz=0)
    assert list(tmp_path.iterdir()) == []
