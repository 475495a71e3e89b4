# SPDX-License-Identifier: Apache-2.0
"""`da3 bag` as a user runs it: results, exports, exit codes and Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rosbags", reason="needs the package rosbags")

from rosbags.highlevel import AnyReader

from da3_core.synthetic import Walk
from da3_core.synthetic.bag import write_bag

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--model", "untrained:da3-small", "--process-res", "56", "--device", "cpu")


@pytest.fixture
def recording(walk: Walk, tmp_path: Path) -> Path:
    return write_bag(walk, tmp_path / "walk")


def depths(folder: Path) -> list[bytes]:
    with AnyReader([folder]) as reader:
        [images] = [each for each in reader.connections if each.topic == "/da3/depth/image"]
        return [raw for _, _, raw in reader.messages([images])]


def test_same_bag_and_options_give_the_same_depth_and_exports(
    recording: Path, tmp_path: Path, da3: Callable[..., Any]
) -> None:
    chosen = ("bag", recording, *SMALL, "--duration", "0.4", "--window", "2")
    first = da3(*chosen, "--export-dir", "out", "--export-format", "glb-tum")
    assert first.exit_code == 0, first.stderr
    assert first.stdout.splitlines()[0] == "walk_da3"
    assert all((tmp_path / line).exists() for line in first.stdout.splitlines())
    header, _, *rows = (tmp_path / "out/trajectory.txt").read_text().splitlines()
    assert header == "# camera (x right, y down, z forward) in da3_map"
    assert len(rows) == 4
    with AnyReader([tmp_path / "walk_da3"]) as reader:
        [poses] = [each for each in reader.connections if each.topic == "/da3/pose"]
        messages = [reader.deserialize(raw, poses.msgtype) for _, _, raw in reader.messages([poses])]
    for row, message in zip(rows, messages, strict=True):
        time, *place = row.split()[:4]
        assert time == f"{message.header.stamp.sec}.{message.header.stamp.nanosec:09d}"
        position = message.pose.position
        assert [float(each) for each in place] == pytest.approx([position.x, position.y, position.z], abs=1e-5)
    second = da3(*chosen, "--output-bag", "again", "--storage", "sqlite3", "--copy-topics", "all", "--json")
    assert second.exit_code == 0, second.stderr
    told = json.loads(second.stdout)
    assert (told["output"], told["frames"], told["maps"], told["damage"], told["files"]) == ("again", 4, 1, None, {})
    assert len(depths(tmp_path / "walk_da3")) == 4
    assert depths(tmp_path / "again") == depths(tmp_path / "walk_da3")


def test_what_is_refused_is_refused_in_one_line(recording: Path, da3: Callable[..., Any]) -> None:
    for arguments, reason in (
        (["none"], "does not exist"),
        ([recording, "--image-topic", "/other"], "no images on '/other'"),
        ([recording, "--image-topic", "/a", "--image-topic", "/a"], "error: --image-topic names one topic twice"),
        ([recording, "--start", "99"], "error: --start is 99 s"),
        ([recording, "--output-bag", recording], "exists"),
        ([recording, "--pose-source", "tf"], "it has camera_link, camera_optical_frame, world"),
        ([recording, *SMALL, "--export-dir", "out", "--export-format", "gs_ply"], "cannot be exported"),
        (
            [recording, "--window", "3", "--stride", "3"],
            "error: --stride is 3 and --window 3: windows must",
        ),
        ([recording, "--export-format", "tum"], "error: --export-format came without --export-dir"),
        ([recording, "--num-max-points", "9"], "error: --num-max-points came without --export-dir"),
        ([recording, "--points-stride", "2"], "error: options of points came without --points"),
        ([recording, *SMALL, "--export-dir", "out", "--export-kwargs", "glb:size:1"], "glb"),
    ):
        result = da3("bag", *arguments)
        assert result.exit_code == 2
        [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert reason in line


def test_poses_of_the_bag_are_shown_to_the_network_and_are_those_of_the_result(
    recording: Path, tmp_path: Path, da3: Callable[..., Any]
) -> None:
    chosen = ("--pose-source", "tf", "--odom-frame", "world", "--ref-view-strategy", "middle", "--every", "6")
    exported = ("--export-dir", "out", "--export-format", "tum")
    result = da3("bag", recording, *SMALL, *chosen, *exported, "--copy-topics", "ground_truth", "--no-window-messages")
    assert result.exit_code == 0, result.stderr
    poses: dict[str, dict[str, list[float]]] = {"/da3/pose": {}, "/ground_truth/pose": {}}
    with AnyReader([tmp_path / "walk_da3"]) as reader:
        for connection, _, raw in reader.messages([each for each in reader.connections if each.topic in poses]):
            message = reader.deserialize(raw, connection.msgtype)
            position, turn = message.pose.position, message.pose.orientation
            numbers = [position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w]
            poses[connection.topic][str(message.header.stamp)] = numbers
    given, truth = poses.values()
    assert len(given) == 4
    for stamp, numbers in given.items():
        sign = 1 if numbers[6] * truth[stamp][6] > 0 else -1  # a quaternion and its negative are one rotation
        assert numbers[:3] == pytest.approx(truth[stamp][:3], abs=1e-6)
        assert numbers[3:] == pytest.approx([sign * each for each in truth[stamp][3:]], abs=1e-6)
    header, _, *rows = (tmp_path / "out/trajectory.txt").read_text().splitlines()
    assert header == "# camera (x right, y down, z forward) in world"
    for row, numbers in zip(rows, given.values(), strict=True):
        values = [float(each) for each in row.split()[1:]]
        sign = 1 if numbers[6] * values[6] > 0 else -1
        assert values == pytest.approx([*numbers[:3], *(sign * each for each in numbers[3:])], abs=1e-5)


def test_place_that_cannot_be_written_fails_in_one_line(
    recording: Path, tmp_path: Path, da3: Callable[..., Any]
) -> None:
    (tmp_path / "file").touch()
    result = da3("bag", recording, *SMALL, "--output-bag", "file/out")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "error: cannot write file/out (Not a directory): make room or choose another place; nothing of it is left"
    )


def test_cut_off_bag_is_processed_and_fails_all_the_same(
    recording: Path, tmp_path: Path, da3: Callable[..., Any]
) -> None:
    [file] = recording.glob("*.mcap")
    with file.open("r+b") as cut:
        cut.truncate(file.stat().st_size * 2 // 3)
    result = da3("bag", recording, *SMALL, "--window", "2", "--every", "4")
    assert result.exit_code == 1, result.stderr
    assert "is damaged" in result.stderr.splitlines()[-1]
    assert 2 <= len(depths(tmp_path / "walk_da3")) < 6


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_a_valid_shorter_bag(recording: Path, tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "da3_core.cli", "bag", str(recording), *SMALL, "--process-res", "252"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and not list(tmp_path.glob(".walk_da3.part/walk_da3/*.mcap")):
            time.sleep(0.05)
        child.send_signal(how)
        _, errors = child.communicate(timeout=120)
    assert child.returncode == 130, errors
    assert len(depths(tmp_path / "walk_da3")) < 24
    assert not list(tmp_path.glob(".walk_da3*"))


def test_progress_off_a_terminal_tells_rate_and_remaining_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from da3_core.cli import progress

    monkeypatch.setattr(progress, "LOG_PERIOD_S", 0.0)
    caplog.set_level("INFO", "da3_core")
    with progress.stage("frames", 4, "frames") as advance:
        for _ in range(3):
            time.sleep(0.01)
            advance(1)
    assert re.fullmatch(r"frames: 1 of 4 frames, \d+\.\d\d per second, 0:0\d left", caplog.messages[0])
    assert len(caplog.messages) == 4
    assert caplog.messages[-1].startswith("frames: 3 frames in 0.")
