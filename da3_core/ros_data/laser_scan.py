# SPDX-License-Identifier: Apache-2.0
"""Depth images to what a planar laser would measure: the nearest thing of every bearing, in a band of heights."""

import numpy as np

from da3_core.options import ScanOptions
from da3_core.ros_data.point_cloud import rays
from da3_core.ros_data.values import LASER_SCAN, MessageValue, message


def laser_scan(
    header: MessageValue,
    depth_m: np.ndarray,
    kept: np.ndarray,
    intrinsics: np.ndarray,
    camera_to_base: np.ndarray,
    band: ScanOptions,
) -> MessageValue:
    """The scan of one depth image, in a frame whose z is up: bearings about that, counted from its x to its y.

    The bearings are those that the image shows. REP 117: of a bearing that is seen to be free up to the largest range,
    within the band, the range is +Inf; of one of which that is not known, NaN.

    Args:
        header: whose frame is the base.
        depth_m: `(H, W)` z-depth; NaN is unknown, +Inf is sky.
        kept: `(H, W)` bool, pixels that are trusted; sky needs not be among them.
        intrinsics: `(3, 3)`, pixel edges at integers.
        camera_to_base: `(4, 4)` pose of the camera's optical frame.
    """
    ray_x, ray_y = rays(depth_m.shape, np.asarray(intrinsics, np.float32))
    rotation, (at_x, at_y, at_z) = camera_to_base[:3, :3].astype(np.float32), camera_to_base[:3, 3].tolist()
    along_x, along_y, along_z = (row[0] * ray_x + row[1] * ray_y + row[2] for row in rotation)  # (H, W) each
    level = np.maximum(np.hypot(along_x, along_y), np.float32(1e-6))

    farthest = np.float32(band.max_range_m) / level
    reach = np.minimum(np.where(kept | np.isposinf(depth_m), depth_m, np.float32(np.nan)), farthest)
    height = at_z + reach * along_z  # NaN fails what follows
    chosen = np.flatnonzero((height >= band.min_height_m) & (height <= band.max_height_m))
    reach, is_free = reach.ravel()[chosen], (reach >= farthest).ravel()[chosen]
    x, y = at_x + reach * along_x.ravel()[chosen], at_y + reach * along_y.ravel()[chosen]

    first, last, ahead = _field_of_view(along_x, along_y, rotation, intrinsics)
    step = np.deg2rad(band.angle_increment_deg) if band.angle_increment_deg else 1 / float(intrinsics[0, 0])
    count = max(1, int((last - first) / step) + 1)
    beam = np.rint((_turned(np.arctan2(y, x) - ahead) - first) / step).astype(np.int64)
    distance = np.hypot(x, y)
    in_view = (beam >= 0) & (beam < count) & (distance >= band.min_range_m)

    ranges = np.full(count, np.nan, np.float32)
    ranges[beam[in_view & is_free]] = np.inf
    nearest = np.full(count, np.inf, np.float32)
    hit = in_view & ~is_free & (distance <= band.max_range_m)
    np.minimum.at(nearest, beam[hit], distance[hit])
    ranges = np.where(np.isfinite(nearest), nearest, ranges)
    return message(
        LASER_SCAN,
        header=header,
        angle_min=ahead + first,
        angle_max=ahead + first + (count - 1) * step,
        angle_increment=step,
        time_increment=0.0,
        scan_time=0.0,
        range_min=float(band.min_range_m),
        range_max=float(band.max_range_m),
        ranges=ranges,
        intensities=np.zeros(0, np.float32),
    )


def _field_of_view(
    along_x: np.ndarray, along_y: np.ndarray, rotation: np.ndarray, intrinsics: np.ndarray
) -> tuple[float, float, float]:
    """The first and the last bearing that the image shows, and the one ahead, from which they are counted."""
    ahead = float(np.arctan2(rotation[1, 2], rotation[0, 2]))
    height, width = along_x.shape
    for vertical in (rotation[2], -rotation[2]):  # of the base, seen by the camera
        u, v, w = np.asarray(intrinsics, np.float32) @ vertical
        if w > 0 and 0 <= u <= w * width and 0 <= v <= w * height:
            return -np.pi, np.pi, ahead  # straight down or up is in the image, and all around that
    border = [np.arctan2(along_y[edge], along_x[edge]) for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])]
    bearings = _turned(np.concatenate(border) - ahead)
    return float(bearings.min()), float(bearings.max()), ahead


def _turned(angles: np.ndarray) -> np.ndarray:
    """The same angles from -pi to pi."""
    return np.asarray((angles + np.pi) % (2 * np.pi) - np.pi)
