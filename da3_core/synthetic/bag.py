# SPDX-License-Identifier: Apache-2.0
"""A walk as a rosbag2, written without ROS: what `synthetic_camera` publishes, on a time line of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.quaternions import quaternion_from_rotation
from da3_core.synthetic.walk import Walk

WORLD_FRAME, CAMERA_FRAME, OPTICAL_FRAME = "world", "camera_link", "camera_optical_frame"
TOPICS = {
    "/camera/image_raw": "sensor_msgs/msg/Image",
    "/camera/camera_info": "sensor_msgs/msg/CameraInfo",
    "/camera/depth": "sensor_msgs/msg/Image",
    "/ground_truth/pose": "geometry_msgs/msg/PoseStamped",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/tf_static": "tf2_msgs/msg/TFMessage",
}
START_NS = 1_700_000_000_000_000_000
# REP 103: the optical z is forward, x of a body; the optical x is right, minus y; the optical y is down, minus z.
_OPTICAL_TO_LINK = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(walk, unfinished / folder.name, round(1e9 / rate_hz), storage, start_ns)
        os.replace(unfinished / folder.name, folder)
    finally:
        shutil.rmtree(unfinished)
    return folder


def _write(walk: Walk, folder: Path, period_ns: int, storage: str, start_ns: int) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    typestore = get_typestore(Stores.ROS2_JAZZY)
    messages = _Messages(typestore.types, walk)
    with Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=typestore, offered_qos_profiles=_qos(topic))
            for topic, kind in TOPICS.items()
        }
        for frame in range(len(walk)):
            stamp_ns = start_ns + frame * period_ns
            content = messages.of(frame, stamp_ns)
            if frame == 0:
                content = {"/tf_static": messages.mounting(stamp_ns), **content}
            for topic, message in content.items():
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


class _Messages:
    """The walk's messages of `types`, rosbags' message classes by name."""

    def __init__(self, types: Any, walk: Walk) -> None:
        self._types, self._walk = types, walk

    def of(self, frame: int, stamp_ns: int) -> dict[str, Any]:
        """All topics of one frame, the truth before the image."""
        walk, camera_to_world = self._walk, self._walk.camera_to_world[frame]
        link_to_world = camera_to_world @ invert_rigid(_OPTICAL_TO_LINK)
        return {
            "/tf": self._transform(stamp_ns, WORLD_FRAME, CAMERA_FRAME, link_to_world),
            "/ground_truth/pose": self._pose(stamp_ns, camera_to_world),
            "/camera/depth": self._image(stamp_ns, walk.depth_m[frame], "32FC1"),
            "/camera/camera_info": self._camera_info(stamp_ns),
            "/camera/image_raw": self._image(stamp_ns, walk.images[frame], "rgb8"),
        }

    def mounting(self, stamp_ns: int) -> Any:
        """The camera's optical frame in its body frame."""
        return self._transform(stamp_ns, CAMERA_FRAME, OPTICAL_FRAME, _OPTICAL_TO_LINK)

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._types[kind](**fields)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        stamp = self._make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        return self._make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def _image(self, stamp_ns: int, pixels: np.ndarray, encoding: str) -> Any:
        return self._make(
            "sensor_msgs/msg/Image",
            header=self._header(stamp_ns, OPTICAL_FRAME),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.nbytes // pixels.shape[0],
            data=np.ascontiguousarray(pixels).reshape(-1).view(np.uint8),
        )

    def _camera_info(self, stamp_ns: int) -> Any:
        """ROS counts pixels from the centre of the first one, the walk from its edge: half a pixel less."""
        centred = self._walk.intrinsics - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        whole = self._make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        return self._make(
            "sensor_msgs/msg/CameraInfo",
            header=self._header(stamp_ns, OPTICAL_FRAME),
            height=self._walk.size[0],
            width=self._walk.size[1],
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=centred.ravel(),
            r=np.eye(3).ravel(),
            p=np.c_[centred, np.zeros(3)].ravel(),
            binning_x=0,
            binning_y=0,
            roi=whole,
        )

    def _vector(self, kind: str, values: np.ndarray) -> Any:
        return self._make(f"geometry_msgs/msg/{kind}", **dict(zip("xyzw", values.tolist(), strict=False)))

    def _pose(self, stamp_ns: int, child_to_parent: np.ndarray) -> Any:
        position = self._vector("Point", child_to_parent[:3, 3])
        orientation = self._vector("Quaternion", quaternion_from_rotation(child_to_parent[:3, :3]))
        pose = self._make("geometry_msgs/msg/Pose", position=position, orientation=orientation)
        return self._make("geometry_msgs/msg/PoseStamped", header=self._header(stamp_ns, WORLD_FRAME), pose=pose)

    def _transform(self, stamp_ns: int, parent: str, child: str, child_to_parent: np.ndarray) -> Any:
        translation = self._vector("Vector3", child_to_parent[:3, 3])
        rotation = self._vector("Quaternion", quaternion_from_rotation(child_to_parent[:3, :3]))
        transform = self._make("geometry_msgs/msg/Transform", translation=translation, rotation=rotation)
        stamped = self._make(
            "geometry_msgs/msg/TransformStamped",
            header=self._header(stamp_ns, parent),
            child_frame_id=child,
            transform=transform,
        )
        return self._make("tf2_msgs/msg/TFMessage", transforms=[stamped])
