# SPDX-License-Identifier: Apache-2.0
"""Depth images to clouds: which pixels become points, without a loop over pixels.

Points are written once, into the memory of the message.
"""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from da3_core.geometry.voxel_map import Voxels
from da3_core.options import CropOptions, PointOptions
from da3_core.ros_data.conventions import points_in_map
from da3_core.ros_data.values import IS_BIG_ENDIAN, POINT_CLOUD, LateBytes, MessageValue, message

BLOCK_PIXELS = 16_384
FLOAT32 = 7  # in a PointField; of rgb too, whose bits are those of a uint32
FIELD_TYPES = {"x": "f4", "y": "f4", "z": "f4", "rgb": "u4", "confidence": "f4"}
Channels = dict[str, Callable[[slice], np.ndarray]]  # the values of a field in a block of rows


def point_cloud(
    header: Any,
    depth_m: np.ndarray,
    intrinsics: np.ndarray,
    *,
    rgb: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    keep: PointOptions,
    within: np.ndarray | None = None,
) -> MessageValue:
    """The cloud of one depth image, in the camera's optical frame.

    Args:
        header: of the image.
        depth_m: `(H, W)` z-depth; NaN and infinite pixels give no point.
        intrinsics: `(3, 3)`, pixel edges at integers.
        rgb: `(H, W, 3)` uint8 colours, or None for a cloud without.
        confidence: `(H, W)`, or None.
        keep: which pixels become points, and how.
        within: `(H, W)` bool, those that may; None for all.
    """
    kept = kept_pixels(depth_m, confidence, keep)
    if within is not None:
        kept &= within
    every = np.s_[:: keep.stride, :: keep.stride]
    kept, depth_m = kept[every], depth_m[every]
    if keep.organized:
        depth_m = np.where(kept, depth_m, np.float32(np.nan))
    ray_x, ray_y = rays(depth_m.shape, np.asarray(intrinsics, np.float32), keep.stride)
    channels: Channels = {
        "x": lambda block: depth_m[block] * ray_x[block],
        "y": lambda block: depth_m[block] * ray_y[block],
        "z": lambda block: depth_m[block],
    }
    if rgb is not None and keep.color:
        channels["rgb"] = lambda block: _packed_rgb(rgb[every][block])
    if confidence is not None:
        channels["confidence"] = lambda block: confidence[every][block]

    dtype = np.dtype([(name, FIELD_TYPES[name]) for name in channels])
    height, width = depth_m.shape if keep.organized else (1, int(np.count_nonzero(kept)))
    data = LateBytes(
        dtype.itemsize * width * height,
        lambda memory: _fill(memory.view(dtype), kept, keep.organized, channels),
    )
    return _cloud(header, dtype, (height, width), data, is_dense=not keep.organized)


def voxel_cloud(header: MessageValue, voxels: Voxels) -> MessageValue:
    """The cloud of a voxel map, one point for each voxel, in the map frame."""
    dtype = np.dtype(list(FIELD_TYPES.items()))
    points = np.empty(len(voxels), dtype)
    for name, values in zip("xyz", points_in_map(voxels.points).T, strict=True):
        points[name] = values
    points["rgb"] = _packed_rgb(voxels.colors[None])[0]
    points["confidence"] = voxels.confidence
    return _cloud(header, dtype, (1, len(points)), points.view(np.uint8), is_dense=True)


def _cloud(
    header: MessageValue, dtype: np.dtype[Any], shape: tuple[int, int], data: np.ndarray | LateBytes, is_dense: bool
) -> MessageValue:
    height, width = shape
    return message(
        POINT_CLOUD,
        header=header,
        height=height,
        width=width,
        fields=[
            message("sensor_msgs/msg/PointField", name=name, offset=place[1], datatype=FLOAT32, count=1)
            for name, place in (dtype.fields or {}).items()
        ],
        is_bigendian=IS_BIG_ENDIAN,
        point_step=dtype.itemsize,
        row_step=dtype.itemsize * width,
        data=data,
        is_dense=is_dense,
    )


def _fill(points: np.ndarray, kept: np.ndarray, organized: bool, channels: Channels) -> None:
    """Write `(P,)` points: those of the pixels that are kept or, of an organized cloud, of all, row by row."""
    filled = 0
    for block in _row_blocks(kept.shape):
        picked = None if organized else np.flatnonzero(kept[block])  # much faster than picking by a ragged mask
        count = kept[block].size if picked is None else picked.size
        target = points[filled : filled + count]
        for name, values_of in channels.items():
            values = values_of(block).ravel()
            target[name] = values if picked is None else values.take(picked)
        filled += count


def _row_blocks(shape: tuple[int, int]) -> Iterator[slice]:
    """Slices of rows so small that their intermediate results stay in the cache and need no fresh memory."""
    rows = max(1, BLOCK_PIXELS // shape[1])
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def rays(shape: tuple[int, int], intrinsics: np.ndarray, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """`(H, W)` each: x and y at unit depth of the centre of every pixel, every `stride`-th of a larger image."""
    rows, columns = (np.arange(size, dtype=np.float32) * stride + np.float32(0.5) for size in shape)
    (fx, skew, cx), (_, fy, cy) = intrinsics[:2]
    ray_y = ((rows - cy) / fy)[:, None]
    shear = skew * ray_y if skew else np.float32(0)
    return np.broadcast_to((columns - cx - shear) / fx, shape), np.broadcast_to(ray_y, shape)


def kept_pixels(depth_m: np.ndarray, confidence: np.ndarray | None, keep: PointOptions) -> np.ndarray:
    """`(H, W)` bool: which pixels become points. Comparisons are written so that NaN fails them."""
    far = keep.max_depth_m if keep.max_depth_m > 0 else np.finfo(np.float32).max
    kept = (depth_m > 0) & (depth_m >= keep.min_depth_m) & (depth_m <= far)
    if confidence is not None and keep.confidence_percentile > 0 and kept.any():
        kept &= confidence >= _percentile(confidence[kept], keep.confidence_percentile)
    if keep.edge_threshold > 0:
        kept &= ~_depth_edges(depth_m, keep.edge_threshold)
    return np.asarray(kept)


def _percentile(values: np.ndarray, percentile: float) -> float:
    rank = int(values.size * percentile / 100)
    return float(np.partition(values, rank)[rank])


def _depth_edges(depth: np.ndarray, threshold: float) -> np.ndarray:
    """`(H, W)` bool: pixels with a relative jump to one of their four neighbours. Next to infinity counts as a jump."""
    edges = np.zeros(depth.shape, bool)
    limit = depth * np.float32(1 + threshold)
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        jump = (depth[before] > limit[after]) | (depth[after] > limit[before])
        edges[before] |= jump
        edges[after] |= jump
    return edges


def within_limits(
    depth_m: np.ndarray, intrinsics: np.ndarray, camera_to_base: np.ndarray, limits: CropOptions
) -> np.ndarray:
    """`(H, W)` bool: pixels whose point lies within the limits, in a base whose z is up."""
    ray_x, ray_y = rays(depth_m.shape, np.asarray(intrinsics, np.float32))
    rotation, offset = camera_to_base[:3, :3].astype(np.float32), camera_to_base[:3, 3].astype(np.float32)
    x, y, z = (
        depth_m * (row[0] * ray_x + row[1] * ray_y + row[2]) + at for row, at in zip(rotation, offset, strict=True)
    )
    inside = (z >= limits.min_height_m) & (z <= limits.max_height_m)
    if limits.max_range_m > 0:
        inside &= x * x + y * y <= limits.max_range_m**2
    return np.asarray(inside)


def _packed_rgb(rgb: np.ndarray) -> np.ndarray:
    """`(H, W)` uint32 0x00RRGGBB. The high byte stays 0: 0xFF would make many colours a NaN when read as a float."""
    if rgb.size == 0:  # OpenCV refuses empty images
        return np.zeros(rgb.shape[:2], np.uint32)
    bgra = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA)
    return bgra.view("<u4")[..., 0] & np.uint32(0x00FFFFFF)
