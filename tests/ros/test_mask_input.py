# SPDX-License-Identifier: Apache-2.0
"""Masks of the robot's body and of a topic, together."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs ROS 2 messages")

from sensor_msgs.msg import Image

from da3_core.errors import InputError
from da3_core.ros_data.images import RefusedMessage
from da3_ros.mask_input import Masks

SIZE = (6, 8)


def mono8(mask: np.ndarray, encoding: str = "mono8") -> Image:
    height, width = mask.shape
    message = Image(height=height, width=width, encoding=encoding, step=width)
    message.data.frombytes((mask.astype(np.uint8) * 9).tobytes())
    return message


def test_the_body_and_the_newest_mask_are_left_out_together(tmp_path: Path) -> None:
    body, moving = np.zeros((2, *SIZE), bool)
    body[4:], moving[:, 2] = True, True
    cv2.imwrite(str(tmp_path / "body.png"), body.astype(np.uint8) * 255)
    refused: list[RefusedMessage] = []
    masks = Masks(str(tmp_path / "body.png"), refused.append)
    np.testing.assert_array_equal(masks.of(SIZE), body)
    masks.take_in(mono8(np.ones(SIZE, bool)))
    masks.take_in(mono8(moving))
    np.testing.assert_array_equal(masks.of(SIZE), body | moving)
    masks.take_in(mono8(moving, "32FC1"))
    assert [refusal.kind for refusal in refused] == ["encoding"]
    np.testing.assert_array_equal(masks.of(SIZE), body | moving, err_msg="the last good one holds")
    with pytest.raises(RefusedMessage, match=r"16x12 pixels and mask.robot_body 8x6"):
        masks.of((12, 16))


def test_without_masks_there_is_none_and_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    refused: list[RefusedMessage] = []
    masks = Masks("none", refused.append)
    assert masks.of(SIZE) is None
    colour = Image(height=1, width=1, encoding="rgb8", step=3)
    colour.data.frombytes(b"abc")
    masks.take_in(colour)
    assert "accepted is mono8" in str(refused[0])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for path in ("/nowhere.png", str(tmp_path / "broken.png")):
        with pytest.raises(InputError, match=r"mask\.robot_body"):
            Masks(path, print)
