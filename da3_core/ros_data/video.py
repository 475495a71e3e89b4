# SPDX-License-Identifier: Apache-2.0
"""Topics that carry a video, image by image, as Foxglove and ffmpeg_image_transport send it: decoded by PyAV."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

import numpy as np

from da3_core.ros_data.images import RefusedMessage

T = TypeVar("T")

# What the names of encoders and formats begin or end with, and the decoder for it.
DECODERS = {"264": "h264", "265": "hevc", "hevc": "hevc", "vp9": "vp9", "av1": "av1"}
LOW_DELAY = 1 << 19  # AV_CODEC_FLAG_LOW_DELAY, which PyAV has under two names
MOST_WAITING = 64  # images that the decoder may hold back; those before are lost


def decoder_name(message: Any) -> str:
    """Of a message with a `format`, such as h265, hevc_nvenc, or libx264;yuv420p;bgr8;bgr8.

    Raises:
        RefusedMessage: no decoder is known for it, or PyAV is not installed.
    """
    encoder = message.format.partition(";")[0].lower()
    name = next((name for part, name in DECODERS.items() if part in encoder), None)
    if name is None:
        raise RefusedMessage(
            "encoding", f"The video has the format '{message.format}'; accepted are h264, h265, vp9 and av1."
        )
    if find_spec("av") is None:
        raise RefusedMessage("encoding", f"The images are a video ({encoder}), which needs PyAV: pip install av.")
    return name


class VideoDecoder(Generic[T]):
    """The images of one topic. Each message comes with what is known about it, and is given back with its image.

    Attributes:
        lost: messages that no image came of, such as those before the first key frame.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._context: Any = None
        self._name = ""
        self._count = 0
        self._has_shown = False
        self._waiting: dict[int, T] = {}

    def decode(self, message: Any, about: T) -> Iterator[tuple[T, Any]]:
        """The images that are ready, as frames for `frame_to_rgb`, in the order in which they are shown.

        Raises:
            RefusedMessage: see `decoder_name`, or its data are damaged.
        """
        import av

        if (name := decoder_name(message)) != self._name:
            self._name, self._context = name, _opened(name)
        packet = av.Packet(bytes(np.frombuffer(message.data, np.uint8)))
        packet.pts = packet.dts = self._count
        self._waiting[self._count] = about
        self._count += 1
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError as error:
            del self._waiting[self._count - 1]
            if not self._has_shown:
                raise RefusedMessage("key_frame", "The video has had no key frame yet.") from error
            raise RefusedMessage("undecodable", f"A piece of the video is damaged ({error.strerror}).") from error
        yield from self._known(frames)
        while len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.lost += 1

    def finish(self) -> Iterator[tuple[T, Any]]:
        """The images that the decoder held back."""
        if self._context is not None:
            yield from self._known(self._context.decode(None))
        self.lost += len(self._waiting)
        self._waiting.clear()

    def _known(self, frames: list[Any]) -> Iterator[tuple[T, Any]]:
        for frame in frames:
            self._has_shown = True
            if frame.pts in self._waiting:
                yield self._waiting.pop(frame.pts), frame


def frame_to_rgb(frame: Any) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of a decoded image."""
    return np.asarray(frame.to_ndarray(format="rgb24"))


def _opened(name: str) -> Any:
    import av

    logging.getLogger("libav").setLevel(logging.CRITICAL)  # what it would say, we say
    context = av.CodecContext.create(name, "r")
    context.flags |= LOW_DELAY
    context.thread_count = 1  # several would each hold an image back
    return context
