# SPDX-License-Identifier: Apache-2.0
"""A video as input: frames are chosen by their time stamps, so a variable frame rate does no harm.

OpenCV reads the videos. Its seeking misses frames of a variable rate, so frames are passed one after the other: once to
read their stamps, once to decode the chosen ones.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from da3_core.errors import InputError, OptionError
from da3_core.sources import SceneImages
from da3_core.storage.staging import staged

if TYPE_CHECKING:
    import numpy as np

FrameFormat = Literal["png", "jpg"]

MAX_FPS = 1000
SPARED_FRAMES, SPARED_SHARE = 3, 0.1  # by which a head may be wrong about the length of a whole video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are used.

    Attributes:
        fps: frames per second of video; more than the video has means every frame.
        start_s: frames before this time are left out.
        end_s: frames after this time are left out; None for the end of the video.
        max_frames: of more frames than this, so many are kept, evenly spread; None for no limit.
    """

    fps: float = 1.0
    start_s: float = 0.0
    end_s: float | None = None
    max_frames: int | None = None


@dataclass(frozen=True)
class VideoFrames:
    """Chosen frames of a video as a source.

    Attributes:
        path: the video.
        numbers: `N` places in the video, counted from 0.
        times_s: `N` times since its first frame.
        frame_format: of the files that `read` writes; PNG loses nothing.
    """

    path: Path
    numbers: tuple[int, ...]
    times_s: tuple[float, ...]
    frame_format: FrameFormat
    has_cameras: bool = False

    @property
    def views(self) -> int:
        return len(self.numbers)

    def read(self, make_folder: Callable[[], Path], advance: Callable[[int], object]) -> SceneImages:
        """Write the frames as `input_images/000000.png` and so on, and their times as `input_images/frames.json`."""
        folder = make_folder() / "input_images"
        names: list[str] = []
        with staged(folder) as staging:
            for image in self._decode():
                names.append(f"{len(names):06d}.{self.frame_format}")
                (staging / names[-1]).write_bytes(_encode(image, self.frame_format))
                advance(1)
            frames = [
                {"file": name, "frame": number, "time_s": round(time_s, 6)}
                for name, number, time_s in zip(names, self.numbers, self.times_s, strict=True)
            ]
            text = json.dumps({"video": str(self.path), "frames": frames}, indent=1)
            (staging / "frames.json").write_text(text, encoding="utf-8")
        import numpy as np

        stamps_ns = np.rint(np.array(self.times_s) * 1e9).astype(np.int64)
        return SceneImages(tuple(folder / name for name in names), stamps_ns=stamps_ns)

    def _decode(self) -> Iterator[np.ndarray]:
        wanted = set(self.numbers)
        capture = _open(self.path)
        for number in range(self.numbers[-1] + 1):
            decoded, image = capture.grab(), None
            if decoded and number in wanted:
                decoded, image = capture.retrieve()
            if not decoded:
                raise InputError(f"{self.path} cannot be decoded at frame {number}: repair or convert the video")
            if image is not None:
                yield image


def open_video(path: Path, sampling: Sampling, frame_format: FrameFormat) -> VideoFrames:
    """Look through a video and choose its frames.

    For every `k` the frame nearest to `start_s + k / fps` is taken, each frame once.

    Raises:
        InputError: the file is missing or no video, or no frame lies in the chosen span.
    """
    _check(sampling)
    if not path.is_file():
        raise InputError(f"cannot read the video {path} (no such file): give a video file")
    times_s = _read_times(path, sampling.end_s)
    numbers = choose_frames(times_s, sampling)
    if not numbers:
        raise OptionError(
            "no frame of {path} lies between {start_s} and {end_s}: it is {length_s:.2f} seconds long",
            path=path,
            length_s=times_s[-1],
        )
    if sampling.fps * times_s[-1] > len(times_s):
        logger.warning("fps %g is more than the video has: every frame is used", sampling.fps)
    return VideoFrames(path, tuple(numbers), tuple(times_s[number] for number in numbers), frame_format)


def choose_frames(times_s: list[float], sampling: Sampling) -> list[int]:
    """Numbers of the frames that `sampling` chooses among frames of these times, ascending."""
    import numpy as np

    times, end_s = np.asarray(times_s), times_s[-1] if sampling.end_s is None else min(sampling.end_s, times_s[-1])
    inside = np.flatnonzero((times >= sampling.start_s) & (times <= end_s))
    if not len(inside):
        return []
    # The small allowance keeps the last frame where start + k / fps meets the end up to rounding.
    steps = np.arange(int((end_s - sampling.start_s) * sampling.fps + 1e-6) + 1)
    half_way = (times[inside][1:] + times[inside][:-1]) / 2
    chosen = np.unique(inside[np.searchsorted(half_way, sampling.start_s + steps / sampling.fps)])
    if sampling.max_frames is not None and len(chosen) > sampling.max_frames:
        chosen = chosen[np.linspace(0, len(chosen) - 1, sampling.max_frames).round().astype(int)]
    return [int(number) for number in chosen]


def _check(sampling: Sampling) -> None:
    if not 0 < sampling.fps <= MAX_FPS:
        raise OptionError(
            "{fps} is {given:g}: give frames per second above 0 and up to {most}", given=sampling.fps, most=MAX_FPS
        )
    if not sampling.start_s >= 0:
        raise OptionError("{start_s} is {given:g}: give seconds from the beginning, 0 or more", given=sampling.start_s)
    if sampling.end_s is not None and not sampling.end_s >= sampling.start_s:
        raise OptionError(
            "{end_s} is {end:g}, before {start_s} {start:g}: give a later time",
            end=sampling.end_s,
            start=sampling.start_s,
        )
    if sampling.max_frames is not None and sampling.max_frames < 1:
        raise OptionError("{max_frames} is {given}: give 1 or more", given=sampling.max_frames)


def _read_times(path: Path, end_s: float | None) -> list[float]:
    """Seconds since the first frame, of every frame up to `end_s`."""
    import cv2

    logger.info("reading the time stamps of %s", path)
    capture = _open(path)
    times_s: list[float] = []
    while capture.grab() and not (times_s and end_s is not None and times_s[-1] - times_s[0] > end_s):
        times_s.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    if not times_s:
        raise InputError(f"{path} has no frames: repair or convert the video")
    _tell_cut(path, times_s, capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS), end_s)
    stands_still = len(times_s) > 1 and times_s[0] == times_s[-1]
    if stands_still or any(later < earlier for earlier, later in pairwise(times_s)):
        raise InputError(f"{path} has no rising time stamps: write it anew, for example with ffmpeg")
    return [time_s - times_s[0] for time_s in times_s]


def _tell_cut(path: Path, times_s: list[float], frames: float, fps: float, end_s: float | None) -> None:
    """Say how much of a video could be read where its head speaks of more."""
    if not (frames > 0 and fps > 0):  # it says nothing
        return
    length_s, expected_s = times_s[-1] - times_s[0], frames / fps
    wanted_s = expected_s if end_s is None else min(end_s, expected_s)
    if length_s + SPARED_FRAMES / fps < (1 - SPARED_SHARE) * wanted_s:
        logger.warning(
            "%s breaks off: %d frames, %.1f of %.1f seconds, can be read", path, len(times_s), length_s, expected_s
        )


def _open(path: Path) -> Any:
    import cv2

    capture = cv2.VideoCapture(str(path.absolute()))  # or a colon in the name would begin an address
    if not capture.isOpened():
        raise InputError(f"{path} is not a video that OpenCV can read: convert it, for example to MP4 with H.264")
    return capture


def _encode(image: np.ndarray, frame_format: FrameFormat) -> bytes:
    import cv2

    written, data = cv2.imencode(f".{frame_format}", image)
    assert written
    return bytes(data)
