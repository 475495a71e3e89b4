# SPDX-License-Identifier: Apache-2.0
"""One image on its way into a model or a session: what every source (folder, video, bag, topic) produces."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class RigPlace:
    """Where a camera sits in a set of cameras that are fixed to each other and expose together.

    Attributes:
        camera_to_rig: `(4, 4)` float64 rigid, OpenCV axes of the camera, metres; the rig's frame may be any.
        frame_set_ns: the same for all frames of one exposure of the set.
    """

    camera_to_rig: np.ndarray
    frame_set_ns: int


@dataclass(frozen=True, eq=False)
class Frame:
    """An image with what is known about its camera.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        stamp_ns: time of exposure, integer nanoseconds.
        camera: the name that outputs of this camera carry (a ROS frame id, a file name).
        intrinsics: `(3, 3)` float64, pixels of `image`, pixel edges at integers (the centre of the first pixel is
            0.5), or None when unknown.
        world_to_camera: `(4, 4)` float64 rigid, OpenCV axes, metres, or None when unknown.
        rig: its place among cameras that expose with it, or None when unknown.
        mask: `(H, W)` bool, pixels that are kept out of alignment, clouds and maps, and have no depth; or None.
        source: what tells its camera from others whose outputs carry the same name; empty where that name does.
        reference_depth: `(M, 3)` float64 depth that is known at some pixels: x, y in pixels of `image`, edges at
            integers, and metres along the optical axis; or None.
        up: `(3,)` float64 away from the ground, in the camera's optical axes, or None when unknown.
        origin: where another process may read its pixels again, such as a `RecordedPixels`, or None.
    """

    image: np.ndarray
    stamp_ns: int = 0
    camera: str = ""
    intrinsics: np.ndarray | None = None
    world_to_camera: np.ndarray | None = None
    rig: RigPlace | None = None
    source: str = ""
    reference_depth: np.ndarray | None = None
    up: np.ndarray | None = None
    origin: object = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class FrameName:
    """What tells a frame of a session apart, without its image; `number` counts them."""

    number: int
    stamp_ns: int
    camera: str
