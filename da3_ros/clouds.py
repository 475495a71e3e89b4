# SPDX-License-Identifier: Apache-2.0
"""Depth images to PointCloud2: which pixels become points, and how points are packed, without a loop over pixels."""

import sys

import cv2
import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from da3_ros.settings import Points

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
    every = slice(None, None, keep.stride)
    rows, columns = (np.arange(size, dtype=np.float32)[every] + np.float32(0.5) for size in depth_m.shape)
    (fx, skew, cx), (_, fy, cy) = np.asarray(intrinsics, np.float32)[:2]
    ray_y = ((rows - cy) / fy)[:, None]
    ray_x = (columns - cx) / fx if skew == 0 else (columns - cx - skew * ray_y) / fx

    depth_m, kept = depth_m[every, every].astype(np.float32, copy=False), kept[every, every]
    if keep.organized:
        depth_m = np.where(kept, depth_m, np.float32(np.nan))
    channels = {"x": depth_m * ray_x, "y": depth_m * ray_y, "z": depth_m}
    if rgb is not None and keep.color:
        channels["rgb"] = _packed_rgb(rgb[every, every])
    if confidence is not None:
        channels["confidence"] = confidence[every, every]
    if not keep.organized:
        channels = {name: values[kept] for name, values in channels.items()}
    return _cloud(header, channels, is_dense=not keep.organized)


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
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        with np.errstate(invalid="ignore"):  # infinity minus infinity, within the sky
            jump = np.abs(depth[after] - depth[before]) > threshold * np.minimum(depth[after], depth[before])
        edges[before] |= jump
        edges[after] |= jump
    return edges


def cloud_message(
    header: Header, points: np.ndarray, rgb: np.ndarray | None = None, confidence: np.ndarray | None = None
) -> PointCloud2:
    """A cloud of `(P, 3)` points, or `(H, W, 3)` for an organised one, with uint8 RGB and confidence of their shape."""
    channels = {"x": points[..., 0], "y": points[..., 1], "z": points[..., 2]}
    if rgb is not None:
        channels["rgb"] = _packed_rgb(rgb if rgb.ndim == 3 else rgb[None])
    if confidence is not None:
        channels["confidence"] = confidence
    return _cloud(header, channels, is_dense=bool(np.isfinite(points).all()))


def _packed_rgb(rgb: np.ndarray) -> np.ndarray:
    """`(H, W)` uint32 0x00RRGGBB. The high byte stays 0: 0xFF would make many colours a NaN when read as a float."""
    if rgb.size == 0:  # OpenCV refuses empty images
        return np.zeros(rgb.shape[:2], np.uint32)
    bgra = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA)
    return bgra.view("<u4")[..., 0] & np.uint32(0x00FFFFFF)


def _cloud(header: Header, channels: dict[str, np.ndarray], is_dense: bool) -> PointCloud2:
    """A cloud whose points interleave the channels, which have one shape: `(P,)` or `(H, W)` when organised."""
    dtype = np.dtype([(name, FIELD_TYPES[name]) for name in channels])
    points = np.empty(channels["z"].shape, dtype)
    for name, values in channels.items():
        points[name] = values
    height, width = points.shape if points.ndim == 2 else (1, points.size)
    message = PointCloud2(header=header, height=height, width=width, is_dense=is_dense)
    message.fields = [
        PointField(name=name, offset=dtype.fields[name][1], datatype=PointField.FLOAT32, count=1) for name in channels
    ]
    message.is_bigendian = sys.byteorder == "big"
    message.point_step = dtype.itemsize
    message.row_step = dtype.itemsize * width
    message.data.frombytes(points.reshape(-1).view(np.uint8).data)
    return message


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
