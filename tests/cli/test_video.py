# SPDX-License-Identifier: Apache-2.0
"""Frames of videos: chosen by time, exact to the pixel, also where the rate varies."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from da3_core.cli.spelling import option_of
from da3_core.errors import InputError
from da3_core.sources.video import Sampling, choose_frames, open_video

MakeVideo = Callable[..., Path]
# Milliseconds: 30 Hz, then a pause, then a burst, then 2 s of nothing before the end.
VARIABLE_RATE = (0, 33, 67, 100, 400, 900, 933, 967, 1500, 1510, 1520, 1530, 3500)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(fps=1), [0, 7, 11, 12]),  # 0, 0.967, 1.53 and 3.5 are nearest to 0, 1, 2 and 3 s
        (Sampling(fps=2), [0, 4, 7, 8, 11, 12]),  # 2 and 2.5 s share 1.53, 3 and 3.5 s share 3.5
        (Sampling(fps=1000), list(range(13))),
        (Sampling(fps=10, start_s=0.1, end_s=0.4), [3, 4]),
        (Sampling(fps=1, start_s=0.95), [7, 11, 12]),
        (Sampling(fps=1000, max_frames=3), [0, 6, 12]),
        (Sampling(fps=1, start_s=2, end_s=3), []),
    ],
)
def test_frames_nearest_in_time_are_chosen_each_once(sampling: Sampling, expected: list[int]) -> None:
    assert choose_frames([time_ms / 1000 for time_ms in VARIABLE_RATE], sampling) == expected


def test_29_97_frames_per_second_do_not_drift() -> None:
    times_s = [i * 1001 / 30000 for i in range(3000)]
    chosen = choose_frames(times_s, Sampling(fps=2))
    assert len(chosen) == 201
    assert max(abs(times_s[number] - k / 2) for k, number in enumerate(chosen)) <= 1001 / 60000 + 1e-9


@pytest.mark.parametrize("name", ["my clip.mkv", "clip.avi"])
def test_frames_and_times_of_a_variable_rate_are_exact(make_video: MakeVideo, tmp_path: Path, name: str) -> None:
    video = open_video(make_video(name, VARIABLE_RATE), Sampling(fps=1000, start_s=0.9), "png")
    done = []
    scene = video.read(lambda: tmp_path, done.append)

    assert scene.images == tuple(tmp_path / f"input_images/{k:06d}.png" for k in range(8))
    assert [int(cv2.imread(str(path)).mean()) for path in scene.images] == [10 * i for i in range(5, 13)]
    assert sum(done) == video.views == 8
    record = json.loads((tmp_path / "input_images/frames.json").read_text())
    assert [frame["frame"] for frame in record["frames"]] == list(range(5, 13))
    np.testing.assert_allclose(
        [frame["time_s"] for frame in record["frames"]], np.array(VARIABLE_RATE[5:]) / 1000, atol=1e-6
    )
    assert sorted(path.name for path in (tmp_path / "input_images").iterdir())[-1] == "frames.json"


def test_a_video_that_starts_late_counts_from_its_first_frame(make_video: MakeVideo, tmp_path: Path) -> None:
    video = open_video(make_video("late.mkv", [2000, 2500, 3000]), Sampling(fps=2), "jpg")
    assert (video.numbers, video.times_s) == ((0, 1, 2), (0, 0.5, 1))
    assert [path.suffix for path in video.read(lambda: tmp_path, int).images] == [".jpg"] * 3


def test_more_frames_than_there_are_means_all_of_them_with_a_warning(
    make_video: MakeVideo, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_video(make_video("clip.mkv", [0, 100, 200, 300]), Sampling(fps=100), "png").views == 4
    assert "every frame is used" in caplog.text


@pytest.mark.parametrize(
    ("sampling", "sentence"),
    [
        (Sampling(fps=0), "--fps is 0"),
        (Sampling(fps=float("nan")), "--fps is nan"),
        (Sampling(start_s=-1), "--start is -1"),
        (Sampling(start_s=2, end_s=1), "--end is 1"),
        (Sampling(max_frames=0), "--max-frames is 0"),
        (Sampling(start_s=9), "0.30 seconds long"),
    ],
)
def test_senseless_choices_are_refused(make_video: MakeVideo, sampling: Sampling, sentence: str) -> None:
    path = make_video("clip.mkv", [0, 100, 200, 300])
    with pytest.raises(InputError) as refused:
        open_video(path, sampling, "png")
    assert sentence in refused.value.spelled(option_of)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    for name, sentence in (("text.mp4", "not a video"), ("none.mp4", "no such file")):
        with pytest.raises(InputError, match=sentence):
            open_video(tmp_path / name, Sampling(), "png")


def test_name_with_a_colon_is_a_file(make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video("10:30:00.mkv", [0, 100, 200])
    monkeypatch.chdir(tmp_path)
    assert open_video(Path("10:30:00.mkv"), Sampling(fps=10), "png").views == 3


def test_cut_video_tells_how_much_can_be_read(
    make_video: MakeVideo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video("clip.mkv", range(0, 4000, 100))
    whole = path.read_bytes()
    open_video(path, Sampling(fps=10), "png")
    assert not caplog.records
    path.write_bytes(whole[: len(whole) // 2])
    views = open_video(path, Sampling(fps=10), "png").views
    assert 15 < views < 25
    assert f"clip.mkv breaks off: {views} frames, {(views - 1) / 10:.1f} of " in caplog.text
    caplog.clear()
    open_video(path, Sampling(fps=10, end_s=1.0), "png")
    assert not caplog.records
