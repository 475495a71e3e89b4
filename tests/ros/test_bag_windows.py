# SPDX-License-Identifier: Apache-2.0
"""Offline and live cut the same windows, and their choices have the same defaults."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs ROS 2 messages")

from da3_core.bag.options import BagOptions
from da3_core.bag.windows import RecordedFrame, cut_windows
from da3_core.options import PointOptions
from da3_core.stream.frame import Frame
from da3_ros import settings
from da3_ros.settings import Settings
from da3_ros.window_buffer import Arrival, WindowBuffer


def arbitrary_frames(count: int, seed: int) -> list[Frame]:
    """Mostly a stream at 10 Hz; now and then a gap, a jump back, another size or another camera."""
    random = np.random.default_rng(seed)
    frames, stamp, size, camera = [], 10**12, (2, 3), "left"
    for _ in range(count):
        stamp += 10**8
        event = random.integers(0, 24)
        if event == 0:
            stamp += 3 * 10**9
        elif event == 1:
            stamp -= 10**10
        elif event == 2:
            size = size[::-1]
        elif event == 3:
            camera = "right" if camera == "left" else "left"
        frames.append(Frame(np.zeros((*size, 3), np.uint8), stamp, camera))
    return frames


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (4, 1), (4, 3), (3, 3), (2, 5)])
def test_windows_are_those_of_the_live_node_with_every_frame(size: int, stride: int) -> None:
    frames = arbitrary_frames(200, seed=size * 10 + stride)
    buffer = WindowBuffer(
        Settings(
            every_frame=True,
            window=settings.WindowSettings(size=size, stride=stride),
            queue=settings.QueueSettings(max_frames=1000),
        )
    )
    for frame in frames:
        buffer.put(Arrival(frame.stamp_ns, frame.camera, frame.image.shape[:2], lambda frame=frame: (frame,)))
    live = []
    while window := buffer.take(0):
        live.append((tuple(frame for each in window.arrivals for frame in each.frames), window.session))
    frame_sets = ((RecordedFrame(frame, frame.stamp_ns),) for frame in frames)
    windows = list(cut_windows(frame_sets, size, stride, max_gap_s=2.0))
    offline = [(window.frames, window.session) for window in windows]
    for before, window in pairwise(windows):
        seen = before.frames if before.session == window.session else ()
        assert [frame in seen for frame in window.frames] == [i < window.old for i in range(len(window.frames))]
    assert offline[: len(live)] == live
    assert len(offline) - len(live) <= 1  # the live node waits for what would complete the last window
    assert len({session for _, session in offline}) > 5


def test_choices_that_both_have_have_the_same_defaults() -> None:
    live, offline = Settings(), BagOptions()
    assert (offline.window, offline.stride, offline.max_gap_s) == (
        live.window.size,
        live.window.stride,
        live.window.max_gap_s,
    )
    assert (offline.intrinsics, offline.scale) == (live.intrinsics.source, live.scale.source)
    assert (offline.sync_slop_s, offline.tf_timeout_s) == (live.sync.slop_s, live.tf.timeout_s)
    assert (offline.pose_source, offline.odom_frame) == (live.pose_source, live.odom_frame)
    assert (offline.confidence_floor, offline.map_frame) == (live.depth.confidence_floor, live.map_frame)
    assert dataclasses.asdict(PointOptions()) == dataclasses.asdict(live.points)
    assert (offline.max_extrapolation_s, offline.path_poses) == (live.tf.max_extrapolation_s, live.path.max_poses)
