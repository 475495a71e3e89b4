# SPDX-License-Identifier: Apache-2.0
"""A live video, piece by piece, without a graph: real H.264 into the buffer."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("av", reason="needs PyAV")

import av
import rclpy
from builtin_interfaces.msg import Time
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from da3_core.errors import InputError
from da3_ros.callbacks import Guard
from da3_ros.camera_input import VIDEO_TYPES, CameraImage, CameraInput
from da3_ros.parameters import settings_from
from da3_ros.window_buffer import WindowBuffer

FRAMES, KEY_FRAMES = 8, 4
GUARD = Guard(None)


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("video_input", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def pieces() -> list[bytes]:
    """A video of ever lighter grey, 10 levels each."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 64, 48, "yuv420p", Fraction(1, 10)
    context.options = {"tune": "zerolatency", "g": str(KEY_FRAMES), "sc_threshold": "0"}
    packets = []
    for number in range(FRAMES):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 + 10 * number, np.uint8), format="rgb24")
        frame.pts = number
        packets += context.encode(frame)
    return [bytes(packet) for packet in [*packets, *context.encode(None)]]


def test_pieces_become_the_images_of_the_window_from_the_first_key_frame_on(node: Node) -> None:
    settings = settings_from({"every_frame": True, "window.size": FRAMES - KEY_FRAMES, "image_transport": "foxglove"})
    buffer = WindowBuffer(settings)
    images: list[CameraImage] = []
    raw = replace(settings, image_transport="raw")  # the package of messages is absent
    camera = CameraInput(node, raw, buffer, GUARD, images.append, "", MutuallyExclusiveCallbackGroup())
    camera.apply(settings)
    for number, piece in list(enumerate(pieces()))[1:]:
        camera.on_video(SimpleNamespace(timestamp=Time(sec=number), frame_id="lens", format="h264", data=piece))
    assert buffer.counts().refused == {"key_frame": KEY_FRAMES - 1}
    frames = [image.decode() for image in images]
    assert [frame.stamp_ns for frame in frames] == [number * 10**9 for number in range(KEY_FRAMES, FRAMES)]
    for number, frame in enumerate(frames, KEY_FRAMES):
        np.testing.assert_allclose(frame.image.mean(), 40 + 10 * number, atol=3)
    camera.close()


@pytest.mark.parametrize("transport", VIDEO_TYPES)
def test_absent_messages_are_named_with_their_package(node: Node, transport: str) -> None:
    package = VIDEO_TYPES[transport][0]
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    settings = settings_from({"image_transport": transport})
    with pytest.raises(InputError, match=f"apt install ros-.ROS_DISTRO-{package.replace('_', '-')}"):
        CameraInput(node, settings, WindowBuffer(settings), GUARD, print, "", MutuallyExclusiveCallbackGroup())
