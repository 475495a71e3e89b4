# SPDX-License-Identifier: Apache-2.0
"""A process that takes bags of as many frames as its arguments say through `process_bag`, and prints its peak MB."""

import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.options import BagOptions
from da3_core.bag.process import process_bag
from da3_core.bag.read import BagReader
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.record import SessionRecord

HEIGHT, WIDTH = 480, 640
VIEWS = 20  # that are recorded; the shortest bag has more


def write_images(folder: Path, count: int) -> None:
    """0.9 MB each."""
    store, kind = get_typestore(Stores.LATEST), "sensor_msgs/msg/Image"
    image, header, time = (store.types[name] for name in (kind, "std_msgs/msg/Header", "builtin_interfaces/msg/Time"))
    pixels = np.zeros(HEIGHT * WIDTH * 3, np.uint8)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/image", kind, typestore=store)
        for i in range(count):
            stamp = time(sec=1000 + i, nanosec=0)
            message = image(
                header=header(stamp=stamp, frame_id="camera"),
                height=HEIGHT,
                width=WIDTH,
                encoding="rgb8",
                is_bigendian=0,
                step=WIDTH * 3,
                data=pixels,
            )
            writer.write(connection, (1000 + i) * 10**9, store.serialize_cdr(message, kind))


def constant_depth(frames: Sequence[Frame]) -> Prediction:
    views, size = len(frames), (126, 168)
    return Prediction(
        depth=np.ones((views, *size), np.float32),
        conf=np.ones((views, *size), np.float32),
        extrinsics=np.tile(np.eye(4, dtype=np.float32), (views, 1, 1)),
        intrinsics=np.tile(np.array([[100, 0, 84], [0, 100, 63], [0, 0, 1]], np.float32), (views, 1, 1)),
        processed_images=np.zeros((views, *size, 3), np.uint8),
    )


def process(recording: str | Path, output: str | Path, advance: Callable[[int], object] = lambda count: None) -> None:
    """Everything copied and recorded for an export too."""
    record = SessionRecord(VIEWS, "longest_map")
    options = BagOptions(copy_topics="all", window=2)
    with BagReader(Path(recording)) as bag:
        process_bag(
            RecordedCamera(bag, options),
            constant_depth,
            options,
            Path(output),
            "mcap",
            model_name="constant",
            advance=advance,
            stop=lambda: False,
            on_result=record.add,
        )


if __name__ == "__main__":
    parent = Path(sys.argv[1])
    for frames in map(int, sys.argv[2:]):
        write_images(parent / f"in{frames}", frames)
        process(parent / f"in{frames}", parent / f"out{frames}")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
