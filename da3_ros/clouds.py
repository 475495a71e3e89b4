# SPDX-License-Identifier: Apache-2.0
"""Depth images to PointCloud2: which pixels become points, and how points are packed, without a loop over pixels."""

import sys
from collections.abc import Iterator

import cv2
import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from da3_ros.settings import Points

BLOCK_PIXELS = 16_384
FIELD_TYPES = {"x": "f4", "y": "f4", "z": "f4", "rgb": "u4", "confidence": "f4"}
POINT_FIELD_DTYPES = {
    PointField.INT8: "i1",
    PointField.UINT8: "u1",
    PointField.INT16: "i2",
    PointField.UINT16: "u2",
    PointField.INT32: "i4",
    PointField.UINT32: "u4",
    PointField.FLOAT32: "f4",
    PointField.FLOAT64: "f8",
}


def depth_cloud(
    header: Header,
    depth_m: np.ndarray,
    intrinsics: np.ndarray,
    *,
    rgb: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    keep: Points,
) -> PointCloud2:
    """The cloud of one depth image, in the camera's optical frame.

    Args:
        header: of the image, shared with the cloud.
        depth_m: `(H, W)` z-depth; NaN and infinite pixels give no point.
        intrinsics: `(3, 3)`, pixel edges at integers.
        rgb: `(H, W, 3)` uint8 colours, or None for a cloud without.
        confidence: `(H, W)`, or None.
        keep: which pixels become points, and how.
    """
    kept = _kept_pixels(depth_m, confidence, keep)
    every = np.s_[:: keep.stride, :: keep.stride]
    kept, depth_m = kept[every], depth_m[every]
    if keep.organized:
        depth_m = np.where(kept, depth_m, np.float32(np.nan))
    ray_x, ray_y = _rays(depth_m.shape, np.asarray(intrinsics, np.float32), keep.stride)
    channels = {
        "x": lambda block: depth_m[block] * ray_x[block],
        "y": lambda block: depth_m[block] * ray_y[block],
        "z": lambda block: depth_m[block],
    }
    if rgb is not None and keep.color:
        channels["rgb"] = lambda block: _packed_rgb(rgb[every][block])
    if confidence is not None:
        channels["confidence"] = lambda block: confidence[every][block]

    message = PointCloud2(header=header, is_dense=not keep.organized)
    shape = depth_m.shape if keep.organized else (int(np.count_nonzero(kept)),)
    points = _allocate(message, shape, tuple(channels))
    filled = 0
    for block in _row_blocks(depth_m.shape):
        picked = np.flatnonzero(kept[block])  # several times faster than picking by a ragged mask
        target = points[block] if keep.organized else points[filled : filled + picked.size]
        for name, values_of in channels.items():
            values = values_of(block)
            target[name] = values if keep.organized else values.ravel().take(picked)
        filled += picked.size
    return message


def _row_blocks(shape: tuple[int, int]) -> Iterator[slice]:
    """Slices of rows so small that their intermediate results stay in the cache and need no fresh memory."""
    rows = max(1, BLOCK_PIXELS // shape[1])
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def _rays(shape: tuple[int, int], intrinsics: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """`(H, W)` each: x and y at unit depth of the centre of every pixel, every `stride`-th of a larger image."""
    rows, columns = (np.arange(size, dtype=np.float32) * stride + np.float32(0.5) for size in shape)
    (fx, skew, cx), (_, fy, cy) = intrinsics[:2]
    ray_y = ((rows - cy) / fy)[:, None]
    shear = skew * ray_y if skew else np.float32(0)
    return np.broadcast_to((columns - cx - shear) / fx, shape), np.broadcast_to(ray_y, shape)


def _kept_pixels(depth_m: np.ndarray, confidence: np.ndarray | None, keep: Points) -> np.ndarray:
    """`(H, W)` bool. Comparisons are written so that NaN fails them."""
    far = keep.max_depth_m if keep.max_depth_m > 0 else np.finfo(np.float32).max
    kept = (depth_m > 0) & (depth_m >= keep.min_depth_m) & (depth_m <= far)
    if confidence is not None and keep.confidence_percentile > 0 and kept.any():
        kept &= confidence >= _percentile(confidence[kept], keep.confidence_percentile)
    if keep.edge_threshold > 0:
        kept &= ~_depth_edges(depth_m, keep.edge_threshold)
    return kept


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


def cloud_message(
    header: Header, points: np.ndarray, rgb: np.ndarray | None = None, confidence: np.ndarray | None = None
) -> PointCloud2:
    """A cloud of `(P, 3)` points, or `(H, W, 3)` for an organised one, with uint8 RGB and confidence of their shape."""
    channels = dict(zip("xyz", np.moveaxis(points, -1, 0), strict=True))
    if rgb is not None:
        channels["rgb"] = _packed_rgb(rgb if rgb.ndim == 3 else rgb[None])
    if confidence is not None:
        channels["confidence"] = confidence
    message = PointCloud2(header=header, is_dense=bool(np.isfinite(points).all()))
    target = _allocate(message, points.shape[:-1], tuple(channels))
    for name, values in channels.items():
        target[name] = values
    return message


def _allocate(message: PointCloud2, shape: tuple[int, ...], names: tuple[str, ...]) -> np.ndarray:
    """Give the message room for `(P,)` or `(H, W)` points; returns its memory as a structured array to be filled."""
    dtype = np.dtype([(name, FIELD_TYPES[name]) for name in names])
    message.height, message.width = shape if len(shape) == 2 else (1, *shape)
    message.fields = [
        PointField(name=name, offset=dtype.fields[name][1], datatype=PointField.FLOAT32, count=1) for name in names
    ]
    message.is_bigendian = sys.byteorder == "big"
    message.point_step = dtype.itemsize
    message.row_step = dtype.itemsize * message.width
    data = message.data  # grown in place, since an array that is assigned to a message is copied
    data.append(0)
    data *= message.row_step * message.height
    return np.frombuffer(data, dtype).reshape(shape)


def _packed_rgb(rgb: np.ndarray) -> np.ndarray:
    """`(H, W)` uint32 0x00RRGGBB. The high byte stays 0: 0xFF would make many colours a NaN when read as a float."""
    if rgb.size == 0:  # OpenCV refuses empty images
        return np.zeros(rgb.shape[:2], np.uint32)
    bgra = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA)
    return bgra.view("<u4")[..., 0] & np.uint32(0x00FFFFFF)


def read_cloud(message: PointCloud2) -> np.ndarray:
    """The points of any cloud as a structured array with its field names, `(P,)` or `(H, W)` when organised.

    `rgb` and `rgba` are read as uint32 0xAARRGGBB, whatever type they are declared with.
    """
    order = ">" if message.is_bigendian else "<"
    formats = ["u4" if f.name in ("rgb", "rgba") else POINT_FIELD_DTYPES[f.datatype] for f in message.fields]
    dtype = np.dtype(
        {
            "names": [f.name for f in message.fields],
            "formats": [
                (order + fmt, (f.count,)) if f.count > 1 else order + fmt
                for f, fmt in zip(message.fields, formats, strict=True)
            ],
            "offsets": [f.offset for f in message.fields],
            "itemsize": message.point_step,
        }
    )
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.row_step)
    points = np.ascontiguousarray(rows[:, : message.width * message.point_step]).view(dtype)
    return points if message.height > 1 else points[0]
