# SPDX-License-Identifier: Apache-2.0
"""The walk as messages with exact stamps, and the few numbers of a pose; written apart from the node's own code."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image

from da3_core.synthetic import Walk

CAMERA_FRAME = "camera_optical_frame"
FIRST_STAMP_NS = 1_700_000_000_123_456_789  # no float holds it
PERIOD_NS = 100_000_001
PAUSE_NS = 3_600_000_000_000  # longer than any gap within a session


class Footage:
    """The walk as messages with exact stamps; it remembers which frame went out with which stamp."""

    def __init__(self, walk: Walk, camera_frame: str = CAMERA_FRAME):
        self.walk = walk
        self.camera_frame = camera_frame
        self.frame_at: dict[int, int] = {}
        self._now_ns = FIRST_STAMP_NS

    def cut(self) -> None:
        """Let so much time pass that what follows is a new session."""
        self._now_ns += PAUSE_NS

    def images(self, frames: Sequence[int]) -> list[Image]:
        """These frames of the walk as rgb8, each one period after the one before."""
        return [self._image(frame) for frame in frames]

    def _image(self, frame: int) -> Image:
        rgb = self.walk.images[frame]
        message = Image(height=rgb.shape[0], width=rgb.shape[1], encoding="rgb8", step=rgb.shape[1] * 3)
        message.header.frame_id = self.camera_frame
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self._now_ns, 1_000_000_000)
        message.data.frombytes(rgb.tobytes())
        self.frame_at[self._now_ns] = frame
        self._now_ns += PERIOD_NS
        return message

    def camera_info(self, image: Image) -> CameraInfo:
        """The calibration of the walk's camera for one image, as a driver publishes it: pixel centres at integers."""
        k = self.walk.intrinsics
        info = CameraInfo(header=image.header, height=image.height, width=image.width, distortion_model="plumb_bob")
        info.d = [0.0] * 5
        info.k = [k[0, 0], 0.0, k[0, 2] - 0.5, 0.0, k[1, 1], k[1, 2] - 0.5, 0.0, 0.0, 1.0]
        info.p = [k[0, 0], 0.0, k[0, 2] - 0.5, 0.0, 0.0, k[1, 1], k[1, 2] - 0.5, 0.0, 0.0, 0.0, 1.0, 0.0]
        return info


def position(pose: Any) -> np.ndarray:
    """`(3,)` of a geometry_msgs/Pose."""
    return np.array([pose.position.x, pose.position.y, pose.position.z])


def matrix(translation: Any, rotation: Any) -> np.ndarray:
    """`(4, 4)` of a ROS translation and quaternion."""
    result = np.eye(4)
    result[:3, :3] = Rotation.from_quat([rotation.x, rotation.y, rotation.z, rotation.w]).as_matrix()
    result[:3, 3] = translation.x, translation.y, translation.z
    return result
