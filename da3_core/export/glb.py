# SPDX-License-Identifier: Apache-2.0
"""`glb`: the coloured point cloud with the camera frusta, `scene.glb`, and its thumbnail `scene.jpg`."""

import colorsys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from da3_core.export import depth_vis
from da3_core.export.maps import each_map
from da3_core.export.points import background_pixels, extract_points, has_depth
from da3_core.formats.gltf import LINES, POINTS, Mesh, write_glb
from da3_core.geometry.cameras import invert_rigid, to_homogeneous
from da3_core.options import LEAST_CONFIDENT, option
from da3_core.prediction import Prediction

Sky = Literal["drop", "far", "keep"]

_OPENCV_TO_GLTF = np.diag([1.0, -1.0, -1.0, 1.0])  # y down, z forward to y up, z backward
_NO_CONFIDENCE = 1.0  # the smallest value a confidence takes


@dataclass(frozen=True)
class Options:
    """A point is kept when its confidence reaches `min(max(conf_thresh, lower percentile), upper percentile)`."""

    num_max_points: int = option(1_000_000, "Beyond it points are drawn at random, seeded.", low=0)
    conf_thresh: float = option(1.05, "Confidence that every point should have.")
    conf_thresh_percentile: float = option(
        LEAST_CONFIDENT,
        "This share of the pixels is dropped at least.",
        low=0,
        high=100,
    )
    ensure_thresh_percentile: float = option(90.0, "This share of the pixels is dropped at most.", low=0, high=100)
    sky: Sky = option("drop", "drop sky pixels, put them far behind the scene, or keep them where the model put them.")
    sky_depth_def: float = option(98.0, "Percentile of the depth of everything else that far means.", low=0, high=100)
    filter_black_bg: bool = option(False, "Drop pixels with all channels below 16.")
    filter_white_bg: bool = option(False, "Drop pixels with all channels of at least 240.")
    show_cameras: bool = option(True, "Draw a frustum per view.")
    camera_size: float = option(0.03, "Length of the frusta as a share of the scene's size.", low=0)
    export_depth_vis: bool = option(True, "Write the images of depth_vis too.")


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """Without poses the one view is drawn in its own camera frame.

    The scene's extra `hf_alignment` is the matrix that took the prediction's world, whose name is `world`, to that of
    the file.
    """
    for one in each_map(prediction, folder):
        _write_map(one.prediction, one.folder, options)
    if options.export_depth_vis:
        depth_vis.write(prediction, folder, depth_vis.Options())


def _write_map(prediction: Prediction, folder: Path, options: Options) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    meshes, extras = scene_of(prediction, options)
    write_glb(folder / "scene.glb", meshes, extras)
    depth_vis.write_jpeg(folder / "scene.jpg", depth_vis.side_by_side(prediction, 0))


def scene_of(prediction: Prediction, options: Options) -> tuple[list[Mesh], dict[str, Any]]:
    """The cloud and the frusta of one map in the axes of glTF, and what the file says beside them."""
    depth, keep = _select_pixels(prediction, options)
    cloud = extract_points(prediction, depth, keep, options.num_max_points)
    world_to_camera = np.eye(4)[None] if prediction.extrinsics is None else to_homogeneous(prediction.extrinsics)
    world_to_scene = _world_to_scene(world_to_camera[0].astype(np.float64), cloud.positions)
    positions = _transform(world_to_scene, cloud.positions)

    columns, rows = cloud.pixels.T
    confidence = None if prediction.conf is None else prediction.conf[cloud.views, rows, columns]
    meshes = [Mesh("points", POINTS, positions, cloud.colors, confidence)] if len(positions) else []
    if options.show_cameras:
        camera_to_scene = world_to_scene @ invert_rigid(world_to_camera.astype(np.float64))
        meshes += _frusta(prediction, camera_to_scene, options.camera_size * _scene_size(positions))
    extras = {"hf_alignment": world_to_scene.tolist(), "world": prediction.world}
    return meshes, extras | {"is_metric": bool(prediction.is_metric)}


def _select_pixels(prediction: Prediction, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Depth and the pixels to draw, `(N, H, W)` float32 and bool."""
    depth, keep = prediction.depth, has_depth(prediction.depth)
    assert prediction.processed_images is not None
    background = background_pixels(
        prediction.processed_images, black=options.filter_black_bg, white=options.filter_white_bg
    )
    sky = np.zeros_like(keep) if prediction.sky is None or options.sky == "keep" else prediction.sky
    keep &= ~background
    if prediction.conf is not None:
        confidence = np.where(background, _NO_CONFIDENCE, prediction.conf)
        keep &= confidence >= _confidence_threshold(confidence, sky, options)
    if options.sky == "far" and (keep & ~sky).any():
        # Its confidence says nothing about a sky that is put there by hand.
        far = np.percentile(depth[keep & ~sky], options.sky_depth_def)
        return np.where(sky, np.float32(far), depth), keep | sky
    return depth, keep & ~sky


def _confidence_threshold(confidence: np.ndarray, sky: np.ndarray, options: Options) -> float:
    counted = confidence[~sky] if np.count_nonzero(~sky) > 10 else confidence
    lower, upper = np.percentile(counted, [options.conf_thresh_percentile, options.ensure_thresh_percentile])
    return float(min(max(options.conf_thresh, lower), upper))


def _world_to_scene(world_to_camera: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """`(4, 4)`: the first camera upright, axes of glTF, the cloud's median at the origin."""
    world_to_scene = _OPENCV_TO_GLTF @ world_to_camera
    if len(positions):
        world_to_scene[:3, 3] -= np.median(_transform(world_to_scene, positions), axis=0)
    return np.asarray(world_to_scene)


def _scene_size(positions: np.ndarray) -> float:
    """Diagonal of the box between the 5th and 95th percentile of each axis; 1 where there is none."""
    if len(positions) < 2:
        return 1.0
    low, high = np.percentile(positions, [5, 95], axis=0)
    return float(np.linalg.norm(high - low)) or 1.0


def _frusta(prediction: Prediction, camera_to_scene: np.ndarray, length: float) -> list[Mesh]:
    """A pyramid of 8 segments per view, from the camera centre to its image at depth `length`."""
    assert prediction.usable_intrinsics is not None
    count, height, width = prediction.depth.shape
    image_corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float64)
    meshes = []
    for view, (intrinsics, to_scene) in enumerate(zip(prediction.usable_intrinsics, camera_to_scene, strict=True)):
        corners = length * image_corners @ np.linalg.inv(intrinsics.astype(np.float64)).T
        vertices = _transform(to_scene, np.vstack([np.zeros(3), corners]))
        segments = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)]
        color = np.array(colorsys.hsv_to_rgb((view + 0.5) / count, 0.85, 0.95)) * 255
        positions = vertices[np.ravel(segments)]
        meshes.append(Mesh(f"camera_{view}", LINES, positions, np.tile(color.astype(np.uint8), (len(positions), 1))))
    return meshes


def _transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])
