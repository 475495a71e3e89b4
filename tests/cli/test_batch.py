# SPDX-License-Identifier: Apache-2.0
"""`da3 batch`: several kinds of recordings, one that fails, and a batch that goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from da3_core.cli.run_batch import recordings_in
from da3_core.errors import InputError
from da3_core.synthetic import Walk
from da3_core.synthetic.bag import write_bag

SMALL = ("--model", "untrained:da3-small", "--process-res", "56", "--device", "cpu", "--engine", "torch")


def test_recordings_are_done_once_and_failures_are_tried_again(
    walk: Walk, tmp_path: Path, da3: Callable[..., Any], make_video: Callable[..., Path]
) -> None:
    pytest.importorskip("rosbags", reason="needs the package rosbags")
    folder = tmp_path / "all"
    (folder / "room").mkdir(parents=True)
    for i, image in enumerate(walk.images[:2]):
        Image.fromarray(image).save(folder / f"room/{i}.png")
    make_video("clip.mkv", (0, 1000, 2000)).rename(folder / "clip.mkv")
    write_bag(walk, folder / "drive")
    (folder / "room.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("no recording")
    chosen = ("batch", folder, *SMALL, "--output-dir", "out", "--duration", "0.3", "--window", "2", "--retries", "1")
    first = da3(*chosen, "--json")
    assert first.exit_code == 1, first.stderr
    entries = {Path(each["input"]).name: each for each in json.loads(first.stdout)}
    assert {name: each["state"] for name, each in entries.items()} == {
        "clip.mkv": "done",
        "drive": "done",
        "room": "done",
        "room.mp4": "failed",
    }
    assert entries["room.mp4"]["tries"] == 2
    assert "room.mp4" in entries["room.mp4"]["error"]
    assert {each["output"] for each in entries.values()} == {"clip", "drive", "room", "room_2"}
    assert (tmp_path / "out/room/scene.glb").exists()
    assert list((tmp_path / "out/drive").glob("*.mcap"))
    written = (tmp_path / "out/room/scene.glb").stat().st_mtime_ns

    (folder / "room.mp4").unlink()
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(folder / "new.png")
    again = da3(*chosen)
    assert again.exit_code == 1
    [head, *rows] = again.stdout.splitlines()
    assert head.split() == ["state", "seconds", "tries", "recording"]
    assert sorted(row.split()[0] for row in rows if row[0] != " ") == ["done"] * 4 + ["failed"]
    assert (tmp_path / "out/room/scene.glb").stat().st_mtime_ns == written
    assert not list((tmp_path / "out").glob(".*.windows"))


def test_a_batch_is_one_at_a_time_and_its_inputs_are_recordings(tmp_path: Path, da3: Callable[..., Any]) -> None:
    (tmp_path / "empty").mkdir()
    for path, problem in ((tmp_path / "empty", "holds no recording"), (tmp_path / "none", "does not exist")):
        with pytest.raises(InputError, match=problem):
            recordings_in(path)
    from da3_core.cli.manifest import held

    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "a.png")
    with held(tmp_path / "out"):
        refused = da3("batch", "a.png", *SMALL, "--output-dir", "out")
    assert refused.exit_code == 2
    assert "another batch is at work" in refused.stderr
    (tmp_path / "out/manifest.json").write_text("[]")
    refused = da3("batch", "a.png", *SMALL, "--output-dir", "out")
    assert refused.exit_code == 2
    assert "is no manifest" in refused.stderr


def test_choices_about_workers_that_contradict_each_other_are_refused(tmp_path: Path, da3: Callable[..., Any]) -> None:
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "a.png")
    for arguments, reason in (
        (("--cpus-per-worker", "2"), "are about workers: add --workers"),
        (("--ray-address", "1.2.3.4:5", "--ray-dashboard"), "--ray-dashboard came with --ray-address"),
        (("--workers", "2", "--use-backend"), "--workers came with --use-backend"),
    ):
        result = da3("images", tmp_path, *SMALL, *arguments)
        assert result.exit_code == 2, result.stderr
        assert reason in result.stderr
