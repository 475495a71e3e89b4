# SPDX-License-Identifier: Apache-2.0
"""What of a camera's images is to be left out: the robot's own body, and what a topic says."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from sensor_msgs.msg import Image

from da3_core.errors import InputError
from da3_core.ros_data.images import RefusedMessage, mask_of
from da3_ros.settings import NO_MASK


class Masks:
    """The masks of one camera, in pixels of its images as they come, both of them together.

    Args:
        robot_body: path of an image whose pixels are not 0 where the robot is, or `NO_MASK`.
        refuse: told of masks that cannot be used.

    Raises:
        InputError: that image cannot be read.
    """

    def __init__(self, robot_body: str, refuse: Callable[[RefusedMessage], object]) -> None:
        self._body = None if robot_body == NO_MASK else _read(robot_body)
        self._newest: np.ndarray | None = None
        self._refuse = refuse

    def take_in(self, message: Image) -> None:
        """The newest of the topic; it holds until another comes."""
        try:
            self._newest = mask_of(message)
        except RefusedMessage as refusal:
            self._refuse(refusal)

    def of(self, size_hw: tuple[int, int]) -> np.ndarray | None:
        """`(H, W)` bool of an image of this size, or None where nothing is left out.

        Raises:
            RefusedMessage: a mask has another size.
        """
        masks = [each for each in (self._body, self._newest) if each is not None]
        for mask in masks:
            if mask.shape != size_hw:
                name = "mask.robot_body" if mask is self._body else "the mask"
                raise RefusedMessage(
                    "mask",
                    f"The image is {size_hw[1]}x{size_hw[0]} pixels and {name} {mask.shape[1]}x{mask.shape[0]}; give "
                    "masks of the size of the images.",
                )
        return np.logical_or.reduce(masks) if masks else None


def _read(path: str) -> np.ndarray:
    file = Path(path).expanduser()
    image = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE) if file.is_file() else None
    if image is None:
        raise InputError(f"The parameter mask.robot_body is {path!r}, which is no image file that can be read.")
    return image > 0
