# SPDX-License-Identifier: Apache-2.0
"""`glb`, read back by trimesh and compared with clouds worked out by hand."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from da3_core.export import export
from da3_core.prediction import Prediction


def load(prediction: Prediction, folder: Path, **options: Any) -> trimesh.Scene:
    export(prediction, folder, "glb", export_kwargs={"glb": options})
    return trimesh.load(folder / "scene.glb")


def row(depth: list[float], **fields: Any) -> Prediction:
    """One view, one pixel high, focal length 1, looking along z from the origin; pixel u has the colour (u, 100, 7)."""
    width = len(depth)
    image = np.zeros((1, 1, width, 3), np.uint8)
    image[..., 0], image[..., 1:] = np.arange(width), (100, 7)
    known: dict[str, Any] = {
        "extrinsics": np.eye(4, dtype=np.float32)[None],
        "intrinsics": np.array([[[1, 0, width / 2], [0, 1, 0.5], [0, 0, 1]]], np.float32),
        "processed_images": image,
    }
    return Prediction(np.array(depth, np.float32)[None, None], **(known | fields))


def colors_of(scene: trimesh.Scene) -> list[int]:
    return [int(c) for c in scene.geometry["points"].colors[:, 0]] if "points" in scene.geometry else []


def test_cloud_and_frustum_are_where_paper_and_pencil_put_them(tmp_path: Path) -> None:
    # Pixel centres 0.5 and 1.5, centre 1: (-0.5, 0, 1) * 2 and (0.5, 0, 1) * 4; y and z turn over, the median
    # (0.5, 0, -3) goes to the origin.
    scene = load(row([2, 4]), tmp_path, camera_size=0.5)
    points = scene.geometry["points"]
    np.testing.assert_allclose(points.vertices, [[-1.5, 0, 1], [1.5, 0, -1]], atol=1e-6)
    np.testing.assert_array_equal(points.colors, [[0, 100, 7, 255], [1, 100, 7, 255]])
    to_scene = np.array(scene.metadata["hf_alignment"])
    np.testing.assert_allclose(to_scene, [[1, 0, 0, -0.5], [0, -1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1]], atol=1e-6)

    # 5th to 95th percentile of two points: 90 % of 3 by 2.
    length = 0.5 * np.hypot(2.7, 1.8)
    camera = [(0, 0, 0), (-1, -0.5, 1), (1, -0.5, 1), (1, 0.5, 1), (-1, 0.5, 1)]
    expected = {tuple(np.round(to_scene[:3, :3] @ (length * np.array(c)) + to_scene[:3, 3], 4)) for c in camera}
    segments = scene.geometry["camera_0"].vertices
    assert len(segments) == 16
    assert {tuple(v) for v in np.round(segments, 4)} == expected


def test_two_views_of_the_same_points_coincide_with_the_first_camera_upright(tmp_path: Path) -> None:
    # The second camera stands at (4, 0, 3) and looks along -x: it has the first one's points (-1, 0, 2) and (2, 0, 4)
    # at (-1, 0, 5) and (1, 0, 2), seen in its pixels 0 and 4. The world is turned about z and moved.
    second = np.array([[0, 0, 1, -3], [0, 1, 0, 0], [-1, 0, 0, 4], [0, 0, 0, 1]], np.float32)
    world = np.array([[0, -1, 0, 9], [1, 0, 0, 8], [0, 0, 1, 7], [0, 0, 0, 1]], np.float32)
    both = Prediction(
        np.array([[[2, 4, 0, 0, 0]], [[5, 0, 0, 0, 2]]], np.float32),
        extrinsics=np.stack([np.eye(4, dtype=np.float32), second]) @ world,
        intrinsics=np.array(
            [[[1, 0, 1], [0, 1, 0.5], [0, 0, 1]], [[40 / 7, 0, 0.5 + 8 / 7], [0, 1, 0.5], [0, 0, 1]]], np.float32
        ),
        processed_images=np.zeros((2, 1, 5, 3), np.uint8),
    )
    vertices = load(both, tmp_path).geometry["points"].vertices
    np.testing.assert_allclose(vertices, [[-1.5, 0, 1], [1.5, 0, -1]] * 2, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [4, 5, 6, 7, 8, 9]),  # 40 % of 1..10 is 4.6
        ({"conf_thresh_percentile": 0.0}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),  # 1.05
        ({"conf_thresh": 100.0}, [9]),  # no more than 90 % may go: 9.1
        ({"conf_thresh": 100.0, "ensure_thresh_percentile": 50.0}, [5, 6, 7, 8, 9]),
    ],
)
def test_confidence_threshold(tmp_path: Path, options: dict[str, Any], kept: list[int]) -> None:
    confidence = np.arange(1, 11, dtype=np.float32)[None, None]
    assert colors_of(load(row([1.0] * 10, conf=confidence), tmp_path, **options)) == kept


def test_every_point_stays_when_all_have_the_lowest_confidence(tmp_path: Path) -> None:
    assert len(colors_of(load(row([1.0] * 10, conf=np.ones((1, 1, 10), np.float32)), tmp_path))) == 10


def test_sky_is_dropped_put_far_or_kept(tmp_path: Path) -> None:
    sky = np.array([[[False] * 20 + [True] * 10]])
    confidence = np.where(sky, 1.0, 2.0).astype(np.float32)
    confidence[0, 0, :3] = 1.2
    prediction = row([*np.linspace(1, 3, 20), *[1.5] * 10], sky=sky, conf=confidence)
    # Had the sky's confidence counted, the 40 % percentile would be 1.2 and not 2.
    ground = list(range(3, 20))
    assert colors_of(load(prediction, tmp_path)) == ground
    far = load(prediction, tmp_path, sky="far", sky_depth_def=100.0)
    assert colors_of(far) == ground + list(range(20, 30))
    depth = np.array(far.metadata["hf_alignment"])[2, 3] - far.geometry["points"].vertices[:, 2]
    np.testing.assert_allclose(depth[-10:], 3, atol=1e-6)
    assert colors_of(load(prediction, tmp_path, sky="keep")) == list(range(20))
    no_confidence = dataclasses.replace(prediction, conf=None)
    assert colors_of(load(no_confidence, tmp_path, sky="keep")) == list(range(30))
    assert colors_of(load(no_confidence, tmp_path)) == list(range(20))


def test_black_and_white_backgrounds(tmp_path: Path) -> None:
    image = np.array([[[[15, 15, 15], [15, 16, 15], [240, 255, 240], [239, 255, 255]]]], np.uint8)
    for confidence in (None, np.full((1, 1, 4), 3, np.float32)):
        prediction = row([1.0] * 4, processed_images=image, conf=confidence)
        assert len(colors_of(load(prediction, tmp_path))) == 4
        assert colors_of(load(prediction, tmp_path, filter_black_bg=True)) == [15, 240, 239]
        assert colors_of(load(prediction, tmp_path, filter_white_bg=True)) == [15, 15, 239]


def test_no_valid_point_leaves_the_cameras(tmp_path: Path) -> None:
    scene = load(row([0.0, np.nan, np.inf]), tmp_path)
    assert set(scene.geometry) == {"camera_0"}
    assert scene.metadata["hf_alignment"] == np.diag([1.0, -1.0, -1.0, 1.0]).tolist()
    export(row([0.0]), tmp_path, "glb", show_cameras=False)
    assert (tmp_path / "scene.glb").stat().st_size < 400


def test_one_view_without_pose_is_drawn_in_its_camera(tmp_path: Path) -> None:
    scene = load(row([2, 4], extrinsics=None), tmp_path)
    np.testing.assert_allclose(scene.geometry["points"].vertices, [[-1.5, 0, 1], [1.5, 0, -1]], atol=1e-6)


def test_thinning_takes_the_same_share_of_every_view(prediction: Prediction, tmp_path: Path) -> None:
    plain = dataclasses.replace(prediction, conf=None, sky=None)
    scene = load(plain, tmp_path, num_max_points=100, show_cameras=False)
    full = load(plain, tmp_path, show_cameras=False)
    few, all_points = scene.geometry["points"].vertices, full.geometry["points"].vertices
    assert (len(few), len(all_points)) == (100, plain.depth.size - 5)
    # Depth rises from view to view, so z tells which view a point came from.
    to_camera = np.array(scene.metadata["hf_alignment"])[2, 3]
    counts = np.histogram(to_camera - few[:, 2], bins=[2, 3, 4, 5])[0]
    assert counts.min() >= 33


def test_files_and_their_order(prediction: Prediction, tmp_path: Path) -> None:
    written = export(prediction, tmp_path, "glb")["glb"]
    views = [tmp_path / f"depth_vis/{i:04d}.jpg" for i in range(3)]
    assert written == [*views, tmp_path / "scene.glb", tmp_path / "scene.jpg"]
    assert (tmp_path / "scene.jpg").read_bytes() == views[0].read_bytes()
