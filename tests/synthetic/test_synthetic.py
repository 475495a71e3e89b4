# SPDX-License-Identifier: Apache-2.0
"""The synthetic room is what it claims to be: its depth, cameras and images agree with each other and with geometry."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.synthetic import Walk, room_walk
from da3_core.synthetic.exact import ExactModel
from da3_core.synthetic.path import look_at
from da3_core.synthetic.pictures import make_texture
from da3_core.synthetic.render import Camera, render_depth
from da3_core.synthetic.scene import Scene
from da3_core.synthetic.shapes import Box, Cylinder, Ellipsoid, Material, Room
from da3_core.synthetic.walk import _load, _store


def points_in_world(depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray) -> np.ndarray:
    """`(H, W, 3)` float64, written out here so that nothing under test is used to test it."""
    v, u = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]] + 0.5
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(intrinsics).T
    return (rays * depth[..., None]) @ camera_to_world[:3, :3].T + camera_to_world[:3, 3]


def project(points: np.ndarray, walk: Walk, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel coordinates u and v (edges at integers) and depth of world points in a frame of the walk."""
    camera_to_world = walk.camera_to_world[frame]
    u, v, w = np.moveaxis((points - camera_to_world[:3, 3]) @ camera_to_world[:3, :3] @ walk.intrinsics.T, -1, 0)
    return u / w, v / w, w


def empty_room(*furniture: Box | Ellipsoid | Cylinder) -> Scene:
    shell = Room(np.array([0, 0, 1.25]), np.array([2.5, 3.5, 1.25]), (Material("plaster"),))
    return Scene((shell, *furniture), (), np.ones((2, 3)))


FORWARD = look_at(np.array([0.0, 0, 1]), np.array([0.0, 1, 1]))  # at the origin, 1 m up, towards +y
DIAGONAL = look_at(np.zeros(3), np.array([1.0, 1, 0]))[:3, :3]
PINHOLE = np.array([[140.0, 0, 140], [0, 140, 70], [0, 0, 1]])


def test_depth_is_along_the_axis_and_taken_at_pixel_centres() -> None:
    depth = render_depth(empty_room(), Camera(PINHOLE, FORWARD), (140, 280))
    # The wall is 3.5 m ahead and 2.5 m wide on each side: its edge is 140 * 2.5 / 3.5 = 100 pixels off the middle.
    np.testing.assert_allclose(depth[60:80, 40:240], 3.5, atol=2e-6)
    np.testing.assert_allclose(depth[70, [39, 240]], 2.5 * 140 / 100.5, atol=2e-6)
    np.testing.assert_allclose(depth[139, 140], 1 * 140 / 69.5, atol=2e-6)  # the floor, 1 m below


@pytest.mark.parametrize(
    ("furniture", "expected"),
    [
        (Box(np.array([0, 2.0, 1]), np.array([0.5, 0.25, 0.5]), ()), 1.75),
        (Ellipsoid(np.array([0, 2.0, 1]), np.array([0.5, 0.25, 0.5]), ()), 1.75),
        (Cylinder(np.array([0, 2.0, 1]), np.array([0.25, 0.25, 0.5]), ()), 1.75),
        # Turned by 45 degrees, an edge of the box looks at the camera: 0.5 * sqrt(2) before its middle.
        (Box(np.array([0, 2.0, 1]), np.array([0.5, 0.5, 0.5]), (), DIAGONAL), 2 - np.sqrt(0.5)),
    ],
)
def test_shapes_are_where_they_are_put(furniture: Box | Ellipsoid | Cylinder, expected: float) -> None:
    scene = empty_room(furniture)
    middle = np.array([[140.0, 0, 0.5], [0, 140, 0.5], [0, 0, 1]])  # one pixel, its centre on the optical axis
    assert render_depth(scene, Camera(middle, FORWARD), (1, 1))[0, 0] == pytest.approx(expected, abs=2e-6)
    on_surface, before = np.array([0, expected, 1]), np.array([0, expected - 0.1, 1])
    assert scene.surface_distance(on_surface) == pytest.approx(0, abs=1e-9)
    assert 0.06 < scene.surface_distance(before) <= 0.1 + 1e-9  # 0.1 before a face, less before an edge


def test_distance_to_the_walls_is_worked_out_by_hand() -> None:
    points = np.array([[2.4, 0, 2.0], [0, -3.3, 2.0], [0.0, 0, 1.0]])
    np.testing.assert_allclose(empty_room().surface_distance(points), [0.1, 0.2, 1.0], atol=1e-9)


def test_every_depth_lies_on_the_first_surface(walk: Walk) -> None:
    for frame in range(0, len(walk), 2):
        camera_to_world = walk.camera_to_world[frame]
        points = points_in_world(walk.depth_m[frame], walk.intrinsics, camera_to_world)[::3, ::3].reshape(-1, 3)
        assert walk.room.surface_distance(points).max() < 1e-4
        for share in (0.3, 0.6, 0.9):  # nothing stands between the camera and what it sees
            between = camera_to_world[:3, 3] + share * (points[::7] - camera_to_world[:3, 3])
            assert walk.room.free_distance(between.T).min() > 0


def test_depth_and_cameras_explain_the_images(walk: Walk) -> None:
    """What one frame sees, the next sees at the place and with the colour that follow from depth and cameras."""
    for frame in range(len(walk)):
        following = (frame + 1) % len(walk)
        points = points_in_world(walk.depth_m[frame], walk.intrinsics, walk.camera_to_world[frame])
        u, v, depth = project(points, walk, following)
        height, width = walk.size
        inside = (depth > 0) & (u > 1) & (u < width - 1) & (v > 1) & (v < height - 1)
        maps = (u - 0.5).astype(np.float32), (v - 0.5).astype(np.float32)
        depth_there = cv2.remap(walk.depth_m[following], *maps, cv2.INTER_LINEAR)
        visible = inside & (abs(depth_there - depth) < 0.005 * depth)
        assert inside.mean() > 0.5
        assert visible.sum() > 0.8 * inside.sum()  # the rest is hidden, or next to an edge
        colour_there = cv2.remap(walk.images[following], *maps, cv2.INTER_LINEAR).astype(float)
        difference = abs(colour_there - walk.images[frame])[visible]
        assert np.median(difference) < 4
        assert difference.mean() < 9


def test_matcher_finds_true_correspondences(walk: Walk) -> None:
    sift, matcher = cv2.SIFT_create(), cv2.BFMatcher()
    for frame in range(0, len(walk), 4):
        keypoints, descriptors = zip(
            *(sift.detectAndCompute(walk.images[i], None) for i in (frame, frame + 1)), strict=True
        )
        pairs = [a for a, b in matcher.knnMatch(*descriptors, k=2) if a.distance < 0.8 * b.distance]
        here = np.array([keypoints[0][pair.queryIdx].pt for pair in pairs])
        there = np.array([keypoints[1][pair.trainIdx].pt for pair in pairs])
        columns, rows = np.clip(np.rint(here).astype(int), 0, np.array(walk.size)[::-1] - 1).T
        points = points_in_world(walk.depth_m[frame], walk.intrinsics, walk.camera_to_world[frame])[rows, columns]
        u, v, _ = project(points, walk, frame + 1)
        right = np.hypot(u - 0.5 - there[:, 0], v - 0.5 - there[:, 1]) < 3
        assert right.sum() >= 60
        assert right.mean() > 0.6


def test_path_is_smooth_closed_and_never_still(walk: Walk) -> None:
    centres, forward = walk.camera_to_world[:, :3, 3], walk.camera_to_world[:, :3, 2]
    steps = np.linalg.norm(np.roll(centres, -1, 0) - centres, axis=1)
    turns = np.rad2deg(np.arccos((np.roll(forward, -1, 0) * forward).sum(1)))
    assert steps.max() < 2.5 * steps.min()
    assert turns.max() < 30
    assert turns.min() > 3
    assert walk.room.free_distance(centres.T).min() > 0.3
    for image, following in zip(walk.images, np.roll(walk.images, -1, 0), strict=True):
        assert cv2.absdiff(image, following).mean() > 10


@pytest.mark.parametrize("size", [(63, 47), (48, 65)])
def test_size_and_intrinsics_are_free(size: tuple[int, int], walk: Walk) -> None:
    pinhole = np.array([[50.0, 0.3, 20.2], [0, 44, 30.7], [0, 0, 1]])
    depth = walk.render_depth(5, pinhole, size)
    points = points_in_world(depth, pinhole, walk.camera_to_world[5])
    assert depth.shape == size
    assert walk.room.surface_distance(points).max() < 1e-4


def test_walk_is_cached_and_rendered_again_when_the_cache_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def once_again() -> Walk:
        return room_walk(1, (33, 48), cache_dir=tmp_path)

    first = once_again()
    [file] = tmp_path.iterdir()  # no temporary file is left
    stored = file.stat().st_mtime_ns
    np.testing.assert_array_equal(once_again().images, first.images)
    assert file.stat().st_mtime_ns == stored
    assert not caplog.records

    file.unlink()
    file.mkdir()  # can neither be read nor replaced
    repaired = once_again()
    assert ["damaged" in caplog.text, "cannot be cached" in caplog.text] == [True, True]
    assert list(tmp_path.iterdir()) == [file]
    np.testing.assert_array_equal(repaired.images, first.images)  # the same seed gives the same bytes
    np.testing.assert_array_equal(repaired.depth_m, first.depth_m)


def test_cut_off_cache_is_not_believed(tmp_path: Path, walk: Walk) -> None:
    file = tmp_path / "walk.npz"
    _store(file, walk.images[:1], walk.depth_m[:1])
    stored = _load(file, (1, 240, 320))
    assert stored is not None
    np.testing.assert_array_equal(stored[1], walk.depth_m[:1])
    assert _load(file, (1, 320, 240)) is None
    file.write_bytes(file.read_bytes()[:-1000])
    assert _load(file, (1, 240, 320)) is None


def test_pictures_follow_from_the_seed() -> None:
    for kind in ("planks", "rug", "books", "abstract"):
        texels = [make_texture(name, seed, 128).texels for name, seed in ((kind, 0), (kind, 0), (kind, 1))]
        np.testing.assert_array_equal(texels[0], texels[1])
        assert (texels[0] != texels[2]).mean() > 0.1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"frames": 0}, "frames of the walk is 0"),
        ({"size": (8, 640)}, "height of the walk is 8"),
        ({"seed": -1}, "seed of the walk is -1"),
        ({"frames": 10_000, "size": (4096, 4096)}, "takes 1174 GB; up to 16 are allowed"),
        ({"intrinsics": np.zeros((3, 3))}, "intrinsics"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        room_walk(**arguments)  # type: ignore[arg-type]


FRAMES = [3, 4, 9, 10]


@pytest.mark.parametrize("method", ["upper_bound_resize", "lower_bound_crop"])
def test_exact_model_is_exact_in_a_new_world_each_call(walk: Walk, method: str) -> None:
    model = ExactModel(walk)
    scales = []
    for _ in range(2):
        prediction = model.inference(
            [walk.images[frame] for frame in FRAMES], process_res=150, process_res_method=method
        )
        camera_to_model = np.linalg.inv(prediction.extrinsics.astype(np.float64))
        true = walk.camera_to_world[FRAMES]
        baselines = [np.linalg.norm(c[:, :3, 3] - c[0, :3, 3], axis=1)[1:] for c in (camera_to_model, true)]
        scale = (baselines[0] / baselines[1]).mean()
        rotation = true[0, :3, :3] @ camera_to_model[0, :3, :3].T
        scales.append(scale)
        for view, frame in enumerate(FRAMES):
            points = points_in_world(prediction.depth[view], prediction.intrinsics[view], camera_to_model[view])
            in_world = (points - camera_to_model[0, :3, 3]) / scale @ rotation.T + true[0, :3, 3]
            assert walk.room.surface_distance(in_world[::2, ::2]).max() < 1e-4
            u, v, depth = project(in_world, walk, frame)
            assert np.ptp(u[:, 0]) < 1e-2  # columns of the processed image are columns of the original
            assert np.ptp(v[0]) < 1e-2
            np.testing.assert_allclose(depth, prediction.depth[view] / scale, rtol=1e-5)
            in_processed = prediction.processed_from_original[view] @ [u[7, 7], v[7, 7], 1]
            np.testing.assert_allclose(in_processed[:2], 7.5, atol=1e-3)
    assert abs(np.log(scales[0] / scales[1])) > 0.01


def test_exact_model_recognises_jpeg_and_resized_images(walk: Walk) -> None:
    def through_jpeg(image: np.ndarray) -> np.ndarray:
        return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_UNCHANGED)

    model = ExactModel(walk, similarity=False)
    altered = [through_jpeg(walk.images[5]), cv2.resize(walk.images[17], (200, 150), interpolation=cv2.INTER_AREA)]
    for image, frame in zip(altered, (5, 17), strict=True):
        prediction = model.inference([image], process_res=84)
        np.testing.assert_allclose(np.linalg.inv(prediction.extrinsics[0]), walk.camera_to_world[frame], atol=1e-5)
        np.testing.assert_allclose(
            prediction.original_intrinsics()[0],
            walk.intrinsics * [[image.shape[1] / 320], [image.shape[0] / 240], [1]],
            rtol=1e-5,
        )
        assert prediction.is_metric == 1
    with pytest.raises(InputError, match="image 1 is none of the 24 frames"):
        model.inference([walk.images[0], walk.images[0][::-1]], process_res=84)


def test_exact_model_takes_the_world_of_known_poses(walk: Walk) -> None:
    images, known = [walk.images[frame] for frame in FRAMES], np.linalg.inv(walk.camera_to_world[FRAMES])
    pinhole = np.repeat(walk.intrinsics[None], len(FRAMES), 0)
    prediction = ExactModel(walk).inference(images, known, pinhole, process_res=84)
    np.testing.assert_allclose(prediction.extrinsics, known, atol=1e-6)
    truth = ExactModel(walk, similarity=False).inference(images, process_res=84)
    np.testing.assert_allclose(prediction.depth, truth.depth, rtol=1e-5)


def test_exact_model_errs_as_told(walk: Walk) -> None:
    images = list(walk.images[:2])
    truth = ExactModel(walk, similarity=False).inference(images, process_res=168).depth

    noisy = ExactModel(walk, similarity=False, depth_noise=0.02).inference(images, process_res=168).depth
    assert np.std(noisy / truth - 1) == pytest.approx(0.02, rel=0.05)

    wrong = ExactModel(walk, similarity=False, outliers=0.05).inference(images, process_res=168).depth / truth
    assert (abs(wrong - 1) > 0.5).mean() == pytest.approx(0.05, rel=0.2)

    torn = ExactModel(walk, similarity=False, holes=0.1).inference(images, process_res=168)
    missing = np.isnan(torn.depth)
    assert 0.04 < missing.mean() < 0.2
    assert (torn.conf[missing] == 1).all()
    assert torn.conf[~missing].min() > 1

    assert ExactModel(walk, confidence=None).inference(images, process_res=84).conf is None
    metric = ExactModel(walk, is_metric=True).inference(images, process_res=168)
    np.testing.assert_array_equal(metric.depth, truth)
    assert metric.is_metric == 1
