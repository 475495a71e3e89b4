# SPDX-License-Identifier: Apache-2.0
"""A walk as a rosbag2, written without ROS: what `synthetic_camera` publishes, on a time line of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.ros_data import values
from da3_core.ros_data.camera_info import camera_info
from da3_core.ros_data.conventions import OPTICAL_TO_MAP
from da3_core.ros_data.values import MessageValue, packed
from da3_core.storage.opened_folder import opened
from da3_core.storage.staging import own_folder
from da3_core.synthetic.walk import Walk

WORLD_FRAME, CAMERA_FRAME, OPTICAL_FRAME = "world", "camera_link", "camera_optical_frame"
TOPICS = {
    "/camera/image_raw": values.IMAGE,
    "/camera/camera_info": values.CAMERA_INFO,
    "/camera/depth": values.IMAGE,
    "/ground_truth/pose": values.POSE_STAMPED,
    "/tf": values.TRANSFORMS,
    "/tf_static": values.TRANSFORMS,
}
START_NS = 1_700_000_000_000_000_000


def write_bag(
    walk: Walk,
    folder: str | os.PathLike[str],
    *,
    rate_hz: float = 10.0,
    storage: Literal["mcap", "sqlite3"] = "mcap",
    start_ns: int = START_NS,
) -> Path:
    """Write the walk as the bag `folder`, which must not exist; frame k has the stamp `start_ns + k * period`.

    Images are rgb8 and 32FC1 metres in `camera_optical_frame`, the pose is that of this frame in `world`, and the
    transforms are world -> camera_link -> camera_optical_frame. Needs the package `rosbags`.

    Raises:
        InputError: the folder exists, or an option is out of range.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder} exists; a bag is written to a new folder, so choose another name or remove it")
    if storage not in ("mcap", "sqlite3"):
        raise InputError(f"storage is {storage!r}; allowed are mcap and sqlite3")
    if not 0 < rate_hz <= 1e6:
        raise InputError(f"rate_hz is {rate_hz!r}; give a number above 0 and up to a million")
    with opened(folder.parent, make=True) as parent, own_folder(parent) as staging:
        _write(walk, staging.path / folder.name, round(1e9 / rate_hz), storage, start_ns)
        os.rename(folder.name, folder.name, src_dir_fd=staging.fd, dst_dir_fd=parent.fd)
    return folder


def _write(walk: Walk, folder: Path, period_ns: int, storage: str, start_ns: int) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    typestore = get_typestore(Stores.ROS2_JAZZY)
    with Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=typestore, offered_qos_profiles=_qos(topic))
            for topic, kind in TOPICS.items()
        }
        for frame in range(len(walk)):
            stamp_ns = start_ns + frame * period_ns
            content = _values(walk, frame, stamp_ns)
            if frame == 0:
                content = {"/tf_static": _mounting(stamp_ns), **content}
            for topic, value in content.items():
                message = packed(value, typestore.types)
                writer.write(connections[topic], stamp_ns, typestore.serialize_cdr(message, TOPICS[topic]))


def _qos(topic: str) -> list[Any]:
    """Latched transforms must say so, for players to latch them too; the rest is played as players like."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    if topic != "/tf_static":
        return []
    forever = QosTime(2147483647, 4294967295)
    return [
        Qos(
            QosHistory.KEEP_LAST,
            1,
            QosReliability.RELIABLE,
            QosDurability.TRANSIENT_LOCAL,
            forever,
            forever,
            QosLiveliness.AUTOMATIC,
            forever,
            False,
        )
    ]


def _values(walk: Walk, frame: int, stamp_ns: int) -> dict[str, MessageValue]:
    """What every topic says about one frame, the truth before the image."""
    camera_to_world = walk.camera_to_world[frame]
    link_to_world = camera_to_world @ invert_rigid(OPTICAL_TO_MAP)
    camera, world = values.header(stamp_ns, OPTICAL_FRAME), values.header(stamp_ns, WORLD_FRAME)
    return {
        "/tf": values.transform(world, CAMERA_FRAME, link_to_world),
        "/ground_truth/pose": values.pose_stamped(world, camera_to_world),
        "/camera/depth": values.image(camera, walk.depth_m[frame], "32FC1"),
        "/camera/camera_info": camera_info(camera, walk.intrinsics, walk.size),
        "/camera/image_raw": values.image(camera, walk.images[frame], "rgb8"),
    }


def _mounting(stamp_ns: int) -> MessageValue:
    """The camera's optical frame in its body frame, whose axes are those of a map."""
    return values.transform(values.header(stamp_ns, CAMERA_FRAME), OPTICAL_FRAME, OPTICAL_TO_MAP)
