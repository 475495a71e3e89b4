# SPDX-License-Identifier: Apache-2.0
"""What tests of bags share: a walk's model over `process_bag`, and reading back what was written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rosbags import rosbag2
from rosbags.highlevel import AnyReader
from scipy.spatial.transform import Rotation

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.options import BagOptions
from da3_core.bag.process import BagSummary, process_bag
from da3_core.bag.read import BagReader
from da3_core.options import PointOptions
from da3_core.stream.record import SessionRecord
from da3_core.synthetic import Walk
from da3_core.synthetic.bag import START_NS
from da3_core.synthetic.exact import ExactModel

PERIOD_NS = 100_000_000
MILLIMETRE = 1e-3
POINTS = PointOptions(stride=4)
MCAP, SQLITE3 = rosbag2.StoragePlugin.MCAP, rosbag2.StoragePlugin.SQLITE3

Messages = dict[str, list[tuple[int, Any]]]
Process = Callable[..., BagSummary]


def process(
    path: Path,
    output: Path,
    model: ExactModel,
    *,
    stop: Callable[[], bool] = lambda: False,
    storage: Any = "mcap",
    record: SessionRecord | None = None,
    **options: Any,
) -> BagSummary:
    """Images through a model that knows them, at their own size."""

    def infer(frames: Any, decoded: Any = None) -> Any:
        return model.inference([frame.image for frame in frames], process_res=max(frames[0].image.shape))

    with BagReader(path) as bag:
        chosen = BagOptions(**options)
        return process_bag(
            RecordedCamera(bag, chosen),
            infer,
            chosen,
            output,
            storage,
            model_name="exact",
            advance=lambda count: None,
            stop=stop,
            on_result=record.add if record else lambda result, session: None,
        )


def part_of(walk: Walk, chosen: slice) -> Walk:
    """Some frames of a walk."""
    return replace(
        walk,
        images=walk.images[chosen],
        depth_m=walk.depth_m[chosen],
        camera_to_world=walk.camera_to_world[chosen],
    )


def read(folder: Path) -> Messages:
    """Time in the bag and message, by topic; without any types but those that the bag defines itself."""
    content: Messages = {}
    with AnyReader([folder]) as reader:
        for connection, time_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            content.setdefault(connection.topic, []).append((time_ns, message))
    return content


def stamp(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def stamps(content: Messages, topic: str = "/da3/depth/image") -> list[int]:
    """Which frames of the walk a topic is about."""
    return [(stamp(message) - START_NS) // PERIOD_NS for _, message in content.get(topic, [])]


def floats(image: Any) -> np.ndarray:
    assert image.encoding == "32FC1"
    return image.data.view(np.float32).reshape(image.height, image.width)


def matrix(translation: Any, rotation: Any) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = Rotation.from_quat([rotation.x, rotation.y, rotation.z, rotation.w]).as_matrix()
    result[:3, 3] = translation.x, translation.y, translation.z
    return result


def pose_matrix(stamped: Any) -> np.ndarray:
    return matrix(stamped.pose.position, stamped.pose.orientation)


def true_pose(walk: Walk, frame: int) -> np.ndarray:
    """In a map that starts at the first camera: x forward, y left, z up as that camera sees them."""
    map_from_first = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    return map_from_first @ np.linalg.inv(walk.camera_to_world[0]) @ walk.camera_to_world[frame]


def rewritten(recording: Path, folder: Path, *, storage: Any, compression: Any = None) -> Path:
    """The same messages in another container; of mcap, a chunk for every image."""
    writer = rosbag2.Writer(folder, version=9, storage_plugin=storage)
    if compression is not None:
        writer.set_compression(compression, rosbag2.CompressionFormat.ZSTD)
    with AnyReader([recording]) as reader, writer:
        to = {c.id: writer.add_connection(c.topic, c.msgtype, typestore=reader.typestore) for c in reader.connections}
        for connection, time_ns, raw in reader.messages():
            writer.write(to[connection.id], time_ns, raw)
            if storage is MCAP and connection.msgtype == "sensor_msgs/msg/Image":
                writer.storage.close_chunk()
    return folder
