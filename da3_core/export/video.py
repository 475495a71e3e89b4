# SPDX-License-Identifier: Apache-2.0
"""H.264 videos, encoded frame by frame by the FFmpeg libraries that PyAV bundles; nothing is needed on the system."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

Quality = Literal["low", "medium", "high"]

_RATE_FACTOR_AND_PRESET = {"low": ("28", "veryfast"), "medium": ("23", "medium"), "high": ("18", "slow")}
_THREADS = 4  # fixed, for x264's output depends on it


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int, quality: Quality = "high") -> None:
    """Encodes frames as they come, so only one is held; the same frames give the same bytes.

    Args:
        frames: `(H, W, 3)` uint8 RGB, one at least, all of one size; odd sides grow by repeating the last pixel.
    """
    import av

    rate_factor, preset = _RATE_FACTOR_AND_PRESET[quality]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = None
        for frame in frames:
            even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
            if stream is None:
                stream = container.add_stream("libx264", rate=fps)
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.thread_count = _THREADS
                stream.options = {"crf": rate_factor, "preset": preset}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode(None))
