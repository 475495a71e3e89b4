# SPDX-License-Identifier: Apache-2.0
"""Depth images to PointCloud2 and back; which pixels become points is in `da3_core.ros_data.point_cloud`."""

import sys
from functools import partial

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from da3_core.ros_data.point_cloud import FIELD_TYPES, fill_cloud, packed_rgb
from da3_ros.settings import Points

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
    message = PointCloud2(header=header, is_dense=not keep.organized)
    allocate = partial(_allocate, message)
    fill_cloud(allocate, depth_m, intrinsics, rgb=rgb, confidence=confidence, keep=keep)
    return message


def cloud_message(
    header: Header, points: np.ndarray, rgb: np.ndarray | None = None, confidence: np.ndarray | None = None
) -> PointCloud2:
    """A cloud of `(P, 3)` points, or `(H, W, 3)` for an organised one, with uint8 RGB and confidence of their shape."""
    channels = dict(zip("xyz", np.moveaxis(points, -1, 0), strict=True))
    if rgb is not None:
        channels["rgb"] = packed_rgb(rgb if rgb.ndim == 3 else rgb[None])
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
