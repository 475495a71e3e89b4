# SPDX-License-Identifier: Apache-2.0
"""A bag ends, and with it the chance of a later window to close what its last one found."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bags import MCAP, pose_matrix, read
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore
from stream_lab.noise import CASES, DisturbedModel
from stream_lab.worlds import walk

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.options import BagOptions
from da3_core.bag.process import process_bag
from da3_core.bag.read import BagReader
from da3_core.stream.frame import Frame
from da3_core.stream.live_loops import LiveLoops
from da3_core.stream.record import SessionRecord
from da3_core.stream.session import Session, SessionOptions, WindowResult

SIZE, STRIDE, PERIOD_NS = 8, 4, 100_000_000
IMAGE = np.zeros((48, 64, 3), np.uint8)


class ThereAndBack:
    """The model of a way of 52 frames and back; frames are told by their stamps."""

    def __init__(self) -> None:
        self._model = DisturbedModel(walk("hall", 280, 0.23, seed=3), CASES["real"], 3)
        self.of_stamp = [*range(52), *range(51, 0, -1)]

    def __call__(self, frames: Any, decoded: Any = None) -> Any:
        return self._model([replace(frame, stamp_ns=self.of_stamp[frame.stamp_ns // PERIOD_NS]) for frame in frames])


def frames_until_a_loop_is_found() -> int:
    model = ThereAndBack()
    session = Session(model, SessionOptions("auto", 1.0), LiveLoops(model, in_background=False))
    frames = [Frame(IMAGE, stamp_ns=i * PERIOD_NS) for i in range(len(model.of_stamp))]
    for end in range(SIZE, len(frames) + 1, STRIDE):
        session.process(frames[end - SIZE : end])
        if session.settle():
            return end
    raise AssertionError("no loop")


def write(folder: Path, frames: int) -> None:
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    with rosbag2.Writer(folder, version=9, storage_plugin=MCAP) as writer:
        to = writer.add_connection("/camera/image_raw", "sensor_msgs/msg/Image", typestore=store)
        for i in range(frames):
            time_ns = i * PERIOD_NS
            stamp = types["builtin_interfaces/msg/Time"](time_ns // 10**9, time_ns % 10**9)
            header = types["std_msgs/msg/Header"](stamp, "camera")
            image = types["sensor_msgs/msg/Image"](header, 48, 64, "rgb8", 0, 192, IMAGE.ravel())
            writer.write(to, time_ns, store.serialize_cdr(image, "sensor_msgs/msg/Image"))


def test_a_loop_that_the_last_window_finds_is_in_the_last_path_and_export(tmp_path: Path) -> None:
    frames = frames_until_a_loop_is_found()
    write(tmp_path / "in", frames)
    results: list[WindowResult] = []
    record = SessionRecord(frames)

    def take_in(result: WindowResult, session: int) -> None:
        results.append(result)
        record.add(result, session)

    with BagReader(tmp_path / "in") as bag:
        options = BagOptions(window=SIZE, stride=STRIDE)
        summary = process_bag(
            RecordedCamera(bag, options),
            ThereAndBack(),
            options,
            tmp_path / "out",
            "mcap",
            model_name="walk",
            advance=lambda count: None,
            stop=lambda: False,
            on_result=take_in,
        )
    assert summary.frames == frames
    *others, last = results
    assert last.bend
    assert not any(result.bend for result in others)
    assert not any(view.is_new for view in last.views)
    exported = record.prediction().extrinsics
    assert exported is not None
    assert len(exported) == frames
    np.testing.assert_allclose(exported[-1], last.corrected[-1].world_to_camera, rtol=1e-5)
    paths = [message for _, message in read(tmp_path / "out")["/da3/path"]]
    assert len(paths) == len(results)
    assert len(paths[-1].poses) == len(paths[-2].poses) == frames
    before, after = (pose_matrix(path.poses[-1]) for path in paths[-2:])
    assert not np.allclose(before[:3, 3], after[:3, 3], rtol=1e-3)
