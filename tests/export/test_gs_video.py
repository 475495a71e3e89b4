# SPDX-License-Identifier: Apache-2.0
"""`gs_video`, decoded by OpenCV: frames, sizes, paths, worlds and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from da3_core.errors import InputError
from da3_core.export import check_request, export
from da3_core.geometry.similarity import Similarity
from da3_core.model.presets import PRESETS
from da3_core.prediction import Gaussians, Prediction

HEIGHT, WIDTH = 28, 42


def splats(means: np.ndarray, scales: np.ndarray, colors: np.ndarray) -> Gaussians:
    harmonics = np.zeros((len(means), 3, 9))
    harmonics[:, :, 0] = (colors - 0.5) / 0.28209479
    fields = (means, scales, np.tile([1.0, 0, 0, 0], (len(means), 1)), harmonics, np.full(len(means), 0.95))
    return Gaussians(*(torch.tensor(np.asarray(field)[None], dtype=torch.float32) for field in fields))


@pytest.fixture
def two_walls() -> Prediction:
    """Two cameras before a red wall at depth 2 that ends in the middle of the first one's image, where a blue wall at
    depth 8 goes on."""
    v, u = np.divmod(np.arange(40 * 80), 80)
    x, y = (u - 39.5) / 20, (v - 19.5) / 20
    depth = np.where(x < 0, 2.0, 8.0)
    means = np.stack([x * depth, y * depth, depth], axis=-1)
    colors = np.where(x[:, None] < 0, (0.9, 0.1, 0.1), (0.1, 0.1, 0.9))
    extrinsics = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    extrinsics[1, 0, 3] = 0.5  # half a unit to the left: the red wall's edge moves right by 0.25 of the focal length
    intrinsics = np.tile(np.array([[40, 0, WIDTH / 2], [0, 40, HEIGHT / 2], [0, 0, 1]], np.float32), (2, 1, 1))
    gaussians = splats(means, np.repeat(0.025 * depth[:, None], 3, axis=1), colors)
    return Prediction(
        np.full((2, HEIGHT, WIDTH), 4, np.float32), extrinsics=extrinsics, intrinsics=intrinsics, gaussians=gaussians
    )


def video(prediction: Prediction, folder: Path, **options: Any) -> np.ndarray:
    """`(F, H, W, 3)` RGB frames."""
    (path,) = export(prediction, folder, "gs_video", export_kwargs={"gs_video": options})["gs_video"]
    capture, frames = cv2.VideoCapture(str(path)), []
    assert capture.get(cv2.CAP_PROP_FPS) == 24
    while (read := capture.read())[0]:
        frames.append(read[1][:, :, ::-1])
    return np.stack(frames).astype(int)


def edges(frames: np.ndarray) -> list[int]:
    """First column in which blue outweighs red in the middle row of each frame's colours."""
    return [
        int(np.argmax(frame[frame.shape[0] // 2, :WIDTH, 2] > frame[frame.shape[0] // 2, :WIDTH, 0]))
        for frame in frames
    ]


def test_own_cameras_with_colours_left_and_depth_right(two_walls: Prediction, tmp_path: Path) -> None:
    frames = video(two_walls, tmp_path, trj_mode="original")
    assert frames.shape == (2, HEIGHT, WIDTH + 8 + WIDTH, 3)
    assert np.abs(np.array(edges(frames)) - (WIDTH // 2, WIDTH // 2 + 10)).max() <= 2
    left, gap, right = frames[0, :, 2:18], frames[0, :, WIDTH + 2 : WIDTH + 6], frames[0, :, WIDTH + 8 :]
    assert np.abs(left - (229, 25, 25)).max() < 40
    assert gap.min() > 230
    assert right[14, 5, 0] > 140 > 110 > right[14, 5, 2]  # near is red
    assert right[14, 38, 2] > 140 > 110 > right[14, 38, 0]  # far is violet-blue


@pytest.mark.parametrize(
    ("layout", "shape"), [("vcat", (HEIGHT + 8 + HEIGHT, WIDTH)), (None, (HEIGHT, WIDTH)), ("hcat", (HEIGHT, 92))]
)
def test_layout(two_walls: Prediction, tmp_path: Path, layout: str | None, shape: tuple[int, int]) -> None:
    assert video(two_walls, tmp_path, trj_mode="original", vis_depth=layout).shape == (2, *shape, 3)


def test_default_path_is_extended(two_walls: Prediction, tmp_path: Path) -> None:
    frames = video(two_walls, tmp_path, vis_depth=None, out_image_hw=(14, 20), chunk_size=32)
    assert (tmp_path / "gs_video/0000_extend.mp4").is_file()
    assert len(frames) == 48 + 38 + 36


def test_given_cameras_in_every_form_are_rendered_as_they_are(two_walls: Prediction, tmp_path: Path) -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = (0, 0.5, 0.25)
    frames = video(two_walls, tmp_path, extrinsics=poses)
    assert np.abs(np.array(edges(frames)) - (21, 31, 26)).max() <= 2
    for same in (poses[:, :3], poses[None], torch.tensor(poses)[None], poses.tolist()):
        np.testing.assert_array_equal(video(two_walls, tmp_path, extrinsics=same), frames)
    export(two_walls, tmp_path / "named", "gs_video", render_exts=poses)
    assert (tmp_path / "named/gs_video/0000_original.mp4").read_bytes() == (
        tmp_path / "gs_video/0000_original.mp4"
    ).read_bytes()


def test_size_keeps_proportions_and_given_intrinsics_are_those_of_the_video(
    two_walls: Prediction, tmp_path: Path
) -> None:
    poses = np.eye(4)[None].repeat(2, axis=0)
    poses[1, 0, 3] = 0.5
    large = video(two_walls, tmp_path, extrinsics=poses, out_image_hw=(56, 84), vis_depth=None)
    assert large.shape == (2, 56, 84, 3)
    # Twice as wide and as high as before: too high, so rows are cut off and the focal length doubles too.
    for size in ((28, 84), (57, 84)):
        same = video(two_walls, tmp_path, extrinsics=poses, out_image_hw=size, vis_depth=None)
        assert same.shape == (2, size[0] + size[0] % 2, 84, 3)
        row = size[0] // 2
        assert int(np.argmax(same[1, row, :, 2] > same[1, row, :, 0])) == pytest.approx(42 + 20, abs=3)
    focal = np.array([[20.0, 0, 30], [0, 20, 14], [0, 0, 1]])
    for matrices in (focal, focal[None], focal[None].repeat(2, axis=0)):
        given = video(two_walls, tmp_path, extrinsics=poses, intrinsics=matrices, out_image_hw=(28, 84), vis_depth=None)
        assert int(np.argmax(given[1, 14, :, 2] > given[1, 14, :, 0])) == pytest.approx(30 + 5, abs=2)


def test_cameras_of_a_scaled_and_moved_world_see_the_same(two_walls: Prediction, tmp_path: Path) -> None:
    expected = video(two_walls, tmp_path, trj_mode="original")
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    to_world = Similarity(8.0, turn, np.array([4.0, 8, 16]))
    assert two_walls.extrinsics is not None
    moved = to_world.transform_camera(np.linalg.inv(two_walls.extrinsics.astype(np.float64)))
    metric = dataclasses.replace(
        two_walls,
        extrinsics=np.linalg.inv(moved).astype(np.float32),
        depth=two_walls.depth * np.float32(8),
        scale_factor=4.0,
        aux={"world_from_gaussians": to_world},
    )
    assert np.abs(video(metric, tmp_path, trj_mode="original") - expected).max() <= 8
    small = {"trj_mode": "wander", "vis_depth": None, "out_image_hw": (14, 20), "chunk_size": 32}
    around, expected_around = (video(p, tmp_path, **small) for p in (metric, two_walls))
    assert np.abs(around - expected_around).mean() < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extrinsics": np.eye(4)[None] * 2}, "extrinsics"),
        ({"extrinsics": np.eye(3)[None]}, r"extrinsics have shape \(1, 3, 3\)"),
        ({"intrinsics": np.zeros((2, 3, 3))}, "intrinsics"),
        (
            {"extrinsics": np.eye(4)[None].repeat(3, 0), "intrinsics": np.eye(3)[None].repeat(2, 0)},
            "2 intrinsics for 3",
        ),
        ({"out_image_hw": (0, 10)}, r"size of a gs_video is \(0, 10\)"),
        ({"out_image_hw": "640x480"}, "size of a gs_video is '640x480'"),
        ({"out_image_hw": 480}, "size of a gs_video is 480"),
        ({"trj_mode": "fly"}, "must be one of original, smooth"),
        ({"output_name": "../x"}, r"name of a gs_video is '../x'"),
        ({"chunk_size": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_rendered_is_refused_before_the_model_runs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_request("gs_video", PRESETS["da3-giant"], views=2, infer_gs=True, export_kwargs={"gs_video": options})


def test_name_and_quality(two_walls: Prediction, tmp_path: Path) -> None:
    sizes = []
    for quality in ("low", "medium", "high"):
        video(two_walls, tmp_path, trj_mode="original", output_name=quality, video_quality=quality)
        sizes.append((tmp_path / f"gs_video/{quality}.mp4").stat().st_size)
    assert sizes == sorted(sizes)


def test_gs_ply_alone_renders_no_video(prediction: Prediction, tmp_path: Path) -> None:
    assert set(export(prediction, tmp_path, "gs_ply")) == {"gs_ply"}
    assert [path.name for path in tmp_path.iterdir()] == ["gs_ply"]
