# SPDX-License-Identifier: Apache-2.0
"""`nerfstudio`: `nerfstudio/transforms.json` with images and a cloud, to train radiance fields and splats on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from da3_core.export import colmap
from da3_core.export.maps import Map, each_map
from da3_core.export.ply import write_cloud
from da3_core.export.points import confident_pixels, extract_points
from da3_core.geometry.cameras import invert_rigid
from da3_core.options import same_option
from da3_core.prediction import Prediction

_OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # y down, z forward to y up, z backward


@dataclass(frozen=True)
class Options:
    max_points: int = same_option(colmap.Options, "max_points")
    conf_thresh_percentile: float = same_option(colmap.Options, "conf_thresh_percentile")


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """The images are those that the network saw, so that intrinsics fit them; names count all views.

    `transform_matrix` is the pose of the camera with OpenGL's axes (x right, y up, z backward). It and the cloud
    `sparse_pc.ply` are in the axes of `Prediction.world`.
    """
    for one in each_map(prediction, folder):
        _write_map(one, options)


def _write_map(one: Map, options: Options) -> None:
    from PIL import Image

    prediction, folder = one.prediction, one.folder / "nerfstudio"
    assert prediction.processed_images is not None
    (folder / "images").mkdir(parents=True)
    for number, image in zip(one.views, prediction.processed_images, strict=True):
        Image.fromarray(image).save(folder / _image(number))
    keep = confident_pixels(prediction, options.conf_thresh_percentile)
    cloud = extract_points(prediction, prediction.depth, keep, options.max_points)
    write_cloud(folder / "sparse_pc.ply", cloud, prediction.world)
    transforms = {
        "camera_model": "OPENCV",
        "world": prediction.world,
        "ply_file_path": "sparse_pc.ply",
        "frames": _frames(one),
    }
    (folder / "transforms.json").write_text(json.dumps(transforms, indent=1), encoding="utf-8")


def _frames(one: Map) -> list[dict[str, Any]]:
    prediction = one.prediction
    assert prediction.extrinsics is not None
    assert prediction.usable_intrinsics is not None
    height, width = prediction.depth.shape[1:]
    camera_to_world = invert_rigid(prediction.extrinsics.astype(np.float64)) @ _OPENCV_TO_OPENGL
    frames = []
    for i, number in enumerate(one.views):
        matrix = prediction.usable_intrinsics[i].astype(float)
        camera = {"fl_x": matrix[0, 0], "fl_y": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
        place = {"w": width, "h": height, "transform_matrix": camera_to_world[i].tolist()}
        time = {} if prediction.stamps_ns is None else {"time": prediction.stamps_ns[i].item() / 1e9}
        frames.append({"file_path": _image(number), **camera, **place, **time})
    return frames


def _image(number: int) -> str:
    return f"images/{number:06d}.png"
