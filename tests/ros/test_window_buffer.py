# SPDX-License-Identifier: Apache-2.0
"""Which frames meet in a window: the newest ones, overlapping, of one session, within bounded memory."""

import gc
import threading
import weakref
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from da3_core.ros_data.images import RefusedMessage
from da3_core.stream.frame import Frame
from da3_ros.parameters import settings_from
from da3_ros.window_buffer import Arrival, LiveWindow, WindowBuffer

SECOND = 1_000_000_000


def buffer(**values: object) -> WindowBuffer:
    return WindowBuffer(settings_from({name.replace("__", "."): value for name, value in values.items()}))


def arrival(stamp_s: float, camera: str = "camera", size: tuple[int, int] = (48, 64), grey: int = 0) -> Arrival:
    stamp_ns = round(stamp_s * SECOND)
    return Arrival(stamp_ns, camera, size, lambda: (Frame(np.full((*size, 3), grey, np.uint8), stamp_ns, camera),))


def put(to: WindowBuffer, *stamps_s: float) -> None:
    for stamp_s in stamps_s:
        to.put(arrival(stamp_s))


def stamps(window: LiveWindow | None) -> list[float]:
    assert window is not None
    return [each.stamp_ns / SECOND for each in window.arrivals]


def test_the_newest_frames_win_and_windows_overlap():
    frames = buffer(window__size=4)
    put(frames, 1, 2, 3)
    assert frames.take(0) is None
    assert frames.counts().filled == 0.75
    put(frames, 4)
    assert stamps(frames.take(0)) == [1, 2, 3, 4]
    assert frames.take(0) is None
    put(frames, 5, 6, 7, 8)  # while the model is busy
    assert stamps(frames.take(0)) == [2, 3, 4, 8]
    put(frames, 9)
    window = frames.take(0)
    assert stamps(window) == [3, 4, 8, 9]
    counts = frames.counts()
    assert (counts.received, counts.used, counts.skipped, counts.waiting) == (9, 6, {"replaced": 3}, 0)


def test_stride_is_the_number_of_new_frames():
    frames = buffer(window__size=5, window__stride=3)
    put(frames, 1, 2, 3, 4, 5)
    assert stamps(frames.take(0)) == [1, 2, 3, 4, 5]
    put(frames, 6, 7)
    assert frames.take(0) is None
    put(frames, 8, 8.5)
    assert stamps(frames.take(0)) == [4, 5, 7, 8, 8.5]


def test_the_stride_adapts_where_inference_falls_behind():
    frames = buffer(window__size=4, window__max_stride=8)
    put(frames, 1, 2, 3, 4)
    assert stamps(frames.take(0)) == [1, 2, 3, 4]
    put(frames, 5)
    assert stamps(frames.take(0)) == [2, 3, 4, 5], "in time, the stride is window.stride"
    put(frames, 6, 7)
    assert stamps(frames.take(0)) == [4, 5, 6, 7]
    put(frames, 8, 9, 10, 11)
    assert stamps(frames.take(0)) == [7, 9, 10, 11], "one view is shared in any case"
    assert frames.counts().skipped == {"replaced": 1}
    frames.apply(settings_from({"window.size": 4, "window.max_stride": 2}))
    put(frames, 12, 13, 14)
    assert stamps(frames.take(0)) == [10, 11, 13, 14]


def test_a_queue_is_caught_up_with_in_order():
    frames = buffer(window__size=3, window__max_stride=2, every_frame=True)
    put(frames, 1, 2, 3, 4, 5, 6)
    assert [stamps(frames.take(0)) for _ in range(3)] == [[1, 2, 3], [3, 4, 5], [4, 5, 6]]
    assert frames.counts().skipped == {}


def test_every_frame_is_used_in_order_up_to_the_limit_of_the_queue():
    frames = buffer(window__size=3, every_frame=True, queue__max_frames=5)
    put(frames, 1, 2, 3, 4, 5)
    with pytest.raises(RefusedMessage, match=r"holds 5 frames.*queue\.max_frames") as refusal:
        put(frames, 6)
    assert refusal.value.kind == "queue_full"
    assert [stamps(frames.take(0)) for _ in range(3)] == [[1, 2, 3], [2, 3, 4], [3, 4, 5]]
    assert frames.take(0) is None
    assert frames.counts().skipped == {}


@pytest.mark.parametrize(
    ("next_frame", "reason"),
    [
        (arrival(2), None),
        (arrival(3.6), "gap"),
        (arrival(0.5), "backwards"),
        (arrival(2, size=(96, 128)), "size"),
        (arrival(2, camera="other"), "camera"),
    ],
)
def test_what_starts_a_new_session(next_frame: Arrival, reason: str | None):
    frames = buffer(window__size=2, window__max_gap_s=2.0)
    put(frames, 1, 1.5)
    first = frames.take(0)
    assert frames.put(next_frame) == reason
    window = frames.take(0)
    if reason is None:
        assert window.session == first.session
        assert window.arrivals == (first.arrivals[1], next_frame)
    else:
        assert window is None, "the new session has one frame of two"


def test_a_session_that_has_ended_gives_up_its_last_frames_when_every_frame_counts():
    frames = buffer(window__size=3, window__stride=2, every_frame=True)
    put(frames, 10, 11, 12, 13, 1, 2)
    assert stamps(frames.take(0)) == [10, 11, 12]
    assert stamps(frames.take(0)) == [11, 12, 13]
    assert frames.take(0) is None
    put(frames, 3)
    last = frames.take(0)
    assert stamps(last) == [1, 2, 3]


def test_a_stamp_that_stands_still_is_refused_with_the_remedy():
    frames = buffer()
    put(frames, 0)
    with pytest.raises(RefusedMessage, match=r"same stamp.*correct the driver") as refusal:
        put(frames, 0)
    frames.refuse(refusal.value.kind)
    assert frames.counts().refused == {"stamp": 1}


def test_a_still_camera_does_not_fill_the_window():
    frames = buffer(window__size=2, window__keyframe_min_motion=5.0, window__max_gap_s=10.0)
    for stamp_s, grey in [(1, 100), (2, 103), (3, 104), (4, 106), (5, 103)]:
        frames.put(arrival(stamp_s, grey=grey))
    assert stamps(frames.take(0)) == [1, 4]  # 106 differs by 6 from 100, 103 by 3 from 106
    assert frames.counts().skipped == {"no motion": 3}


def test_on_demand_takes_what_there_is():
    frames = buffer(window__size=4)
    assert frames.take_now() is None
    put(frames, 1, 2)
    assert stamps(frames.take_now()) == [1, 2]
    assert stamps(frames.take_now()) == [1, 2]
    put(frames, 3, 4)
    assert stamps(frames.take_now()) == [1, 2, 4]


def test_a_frame_that_cannot_be_decoded_leaves_the_window():
    frames = buffer(window__size=3)
    put(frames, 1, 2, 3)
    window = frames.take(0)
    frames.refuse("undecodable", window.arrivals[1])
    put(frames, 4)
    assert stamps(frames.take(0)) == [1, 3, 4]
    assert frames.counts().used == 3


def test_clear_starts_a_session_without_memory_of_the_old_one():
    frames = buffer(window__size=2)
    put(frames, 5, 6)
    old = frames.take(0)
    assert frames.clear() > old.session
    put(frames, 6, 7)
    window = frames.take(0)
    assert stamps(window) == [6, 7]
    assert window.session > old.session


def test_a_flood_from_another_thread_leaves_few_frames_alive_and_every_window_in_order():
    frames = buffer(window__size=4, window__stride=2)
    alive: weakref.WeakSet[Arrival] = weakref.WeakSet()

    def flood() -> None:
        for i in range(3000):
            each = arrival(i * 1e-3)
            alive.add(each)
            frames.put(each)

    producer = threading.Thread(target=flood)
    producer.start()
    windows = []
    while producer.is_alive() or frames.counts().filled == 1.0:
        if window := frames.take(0.05):
            windows.append(stamps(window))
    producer.join()
    del window
    gc.collect()
    assert len(alive) <= 6
    counts = frames.counts()
    assert counts.received == counts.used + counts.skipped.get("replaced", 0) + counts.waiting == 3000
    assert all(before < after for window in windows for before, after in pairwise(window))
    assert all(before[-2:] == after[:2] for before, after in pairwise(windows))
