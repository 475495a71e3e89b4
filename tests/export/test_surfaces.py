# SPDX-License-Identifier: Apache-2.0
"""Formats of depth and surfaces, read by the libraries of those who use them: OpenEXR, meshes, the packed scene."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from da3_core.errors import InputError
from da3_core.export import export
from da3_core.postprocessing import at_input_size
from da3_core.prediction import Prediction
from da3_core.synthetic import Walk
from da3_core.synthetic.exact import ExactModel


@pytest.fixture(scope="module")
def room(walk: Walk) -> Prediction:
    """Eight views of the room with exact depth and cameras."""
    return ExactModel(walk).inference(list(walk.images[::3]), process_res=126)


def test_opencv_reads_the_depth_of_an_exr(prediction: Prediction, tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR")
    first, *_ = export(prediction, tmp_path, "depth_exr")["depth_exr"]
    code = f"import cv2, numpy as np; np.save({str(tmp_path / 'read.npy')!r}, cv2.imread({str(first)!r}, -1))"
    environment = {**os.environ, "OPENCV_IO_ENABLE_OPENEXR": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    known = np.isfinite(prediction.depth[0]) & (prediction.depth[0] > 0)
    np.testing.assert_array_equal(np.load(tmp_path / "read.npy"), np.where(known, prediction.depth[0], 0))


def test_compositors_find_the_channel_z(prediction: Prediction, tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR")
    first, *_ = export(prediction, tmp_path, "depth_exr", export_kwargs={"depth_exr": {"channel": "Z"}})["depth_exr"]
    with exr.File(str(first)) as file:
        assert list(file.channels()) == ["Z"]


def test_a_mesh_lies_on_the_exact_surfaces_and_faces_the_cameras(room: Prediction, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("skimage")
    files = export(room, tmp_path, "mesh", export_kwargs={"mesh": {"voxels": 96}})["mesh"]
    before = [path.read_bytes() for path in files]
    mesh = trimesh.load(tmp_path / "mesh.ply")
    voxel = max(mesh.extents) / 96
    assert room.extrinsics is not None
    assert room.intrinsics is not None
    world_to_camera = room.extrinsics[0].astype(float)
    camera = mesh.vertices @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    pixels = camera @ room.intrinsics[0].T
    pixels = pixels[:, :2] / pixels[:, 2:]
    height, width = room.depth.shape[1:]
    seen = (camera[:, 2] > 0) & ((pixels > 0) & (pixels < (width, height))).all(axis=1)
    column, row = pixels[seen].astype(int).T
    error = np.abs(camera[seen, 2] - room.depth[0][row, column])
    assert np.median(error) < voxel / 2  # others are hidden from this camera
    centre = np.linalg.inv(world_to_camera)[:3, 3]
    faces_camera = (mesh.face_normals * (centre - mesh.triangles_center)).sum(axis=1) > 0
    assert faces_camera.mean() > 0.85
    assert mesh.visual.vertex_colors[:, :3].std() > 10

    scene = trimesh.load(tmp_path / "mesh.glb", force="mesh")
    assert len(scene.faces) == len(mesh.faces)
    again = export(room, tmp_path, "mesh", export_kwargs={"mesh": {"voxels": 96}})["mesh"]
    assert [path.read_bytes() for path in again] == before


def test_a_mesh_of_nothing_is_refused_in_a_sentence(prediction: Prediction, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    empty = dataclasses.replace(prediction, depth=np.zeros_like(prediction.depth))
    with pytest.raises(InputError, match="no pixel is left"):
        export(empty, tmp_path, "mesh")


def test_depth_at_the_size_of_the_images_is_that_of_the_room(walk: Walk) -> None:
    images = list(walk.images[:9:8])
    small = ExactModel(walk).inference(images, process_res=84)
    large = at_input_size(small, images)
    assert large.depth.shape == (2, *walk.images.shape[1:3])
    assert large.intrinsics is not None
    np.testing.assert_allclose(large.intrinsics, small.original_intrinsics(), rtol=1e-6)
    ratio = large.depth / walk.depth_m[:9:8]
    wrong = np.abs(ratio / np.median(ratio) - 1) > 0.05  # the model has a unit of its own
    assert wrong.mean() < 0.06
    assert np.array_equal(large.processed_images, np.stack(images))
    assert large.cropped() is None


def test_depth_at_the_size_of_images_of_two_sizes_is_refused(walk: Walk) -> None:
    images = [walk.images[0], walk.images[8][:200]]
    small = ExactModel(walk).inference([walk.images[0], walk.images[8]], process_res=84)
    odd = dataclasses.replace(small, original_sizes=np.array([[240, 320], [200, 320]]))
    with pytest.raises(InputError, match="one size"):
        at_input_size(odd, images)


def test_the_packed_scene_is_shown_by_a_browser_without_a_request(
    room: Prediction, tmp_path: Path, browser: object
) -> None:
    files = export(room, tmp_path / "room <b>", "html-glb", export_kwargs={"html": {"title": "room <b>"}})
    [scene] = files["html"]
    page = browser.new_page(viewport={"width": 400, "height": 600})  # type: ignore[attr-defined]
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(scene.as_uri())
    page.wait_for_function("document.querySelector('#scene-points').textContent.includes('points')")
    page.wait_for_selector("canvas")
    assert (asked, errors) == ([scene.as_uri()], [])
    assert page.title() == page.inner_text("h1") == "room <b>"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.wait_for_timeout(100)
    colours = len(Image.open(_screenshot(page, tmp_path)).convert("RGB").getcolors(1 << 20) or ())
    assert colours > 100  # the cloud is there
    page.close()


def _screenshot(page: object, folder: Path) -> Path:
    path = folder / "shot.png"
    page.screenshot(path=path)  # type: ignore[attr-defined]
    return path


def test_the_gallery_packs_a_scene_that_was_exported(room: Prediction, tmp_path: Path) -> None:
    from da3_core.cli import app

    export(room, tmp_path / "kitchen", "glb")

    def pack(scene: Path, output: Path) -> Result:
        return CliRunner().invoke(app, ["gallery", "--pack", str(scene), str(output)])

    done = pack(tmp_path / "kitchen", tmp_path / "out.html")
    assert done.exit_code == 0, done.stderr
    text = (tmp_path / "out.html").read_text()
    assert "<title>kitchen</title>" in text
    assert not re.search(r"(src|href)=\"?https?:|^import |^export ", text, re.MULTILINE)
    assert pack(tmp_path, tmp_path / "no.html").exit_code == 2
