# SPDX-License-Identifier: Apache-2.0
"""A gallery that our own exporter filled from the synthetic room, and a server that shows it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from gallery_server import HOSTILE, GalleryServer, gallery_server
from PIL import Image

from da3_core.export import export
from da3_core.formats.gltf import LINES, POINTS, Mesh, write_glb
from da3_core.synthetic import Walk
from da3_core.synthetic.exact import ExactModel


@pytest.fixture(scope="session")
def make_scene() -> Callable[[Path], Path]:
    """`make_scene(folder)` fills a folder with the smallest scene: three points, a line and a image."""

    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        corners, red = np.eye(3, dtype=np.float32), np.full((3, 3), (255, 0, 0), np.uint8)
        meshes = [Mesh("points", POINTS, corners, red), Mesh("camera_0", LINES, corners[:2], red[:2])]
        write_glb(folder / "scene.glb", meshes, {})
        Image.new("RGB", (8, 4), (0, 128, 255)).save(folder / "scene.jpg")
        return folder

    return make


@pytest.fixture(scope="session")
def gallery(walk: Walk, make_scene: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A group `rooms` of a scene with everything, one scene without a group, `many` scenes, and names to trip over.

    Beside the folder and in it lie things that must not get out; treat all of it as read-only.
    """
    outside = tmp_path_factory.mktemp("gallery")
    root = outside / "work space"
    prediction = ExactModel(walk).inference(list(walk.images[:20:4]), process_res=154)
    export(prediction, root / "rooms/exact room", "glb-mini_npz-ply")
    video = root / "rooms/exact room/gs_video/0000_extend.mp4"
    video.parent.mkdir()
    video.write_bytes(np.random.default_rng(0).bytes(1000))
    make_scene(root / "alone")
    for number in range(18):
        make_scene(root / f"many/scene {number:02d}")
    make_scene(root / HOSTILE / f"{HOSTILE} & 100%41#?")

    (root / "secret.jpg").write_text("secret")
    (root / "rooms/secret.json").write_text("secret")
    for name in ("notes.txt", ".hidden.jpg", "page.html", "results.npz.bak"):
        (root / "alone" / name).write_text("secret")
    (root / "alone/.staging").mkdir()
    (root / "alone/.staging/scene.jpg").write_text("secret")
    (outside / "secret.jpg").write_text("secret")
    sibling = make_scene(outside / "work space private/group/scene")
    (sibling / "scene.jpg").write_text("secret")
    (root / "alone/link.jpg").symlink_to(outside / "secret.jpg")
    (root / "alone/notes.jpg").symlink_to(root / "alone/notes.txt")
    (root / "alone/loop.jpg").symlink_to(root / "alone/loop.jpg")
    (root / "linked group").symlink_to(sibling.parent)
    (root / "alone/depth_vis").symlink_to(sibling)
    shutil.copytree(root / "alone", root / "incomplete/no image", symlinks=True)
    (root / "incomplete/no image/scene.jpg").unlink()
    return root


@pytest.fixture(scope="session")
def server(gallery: Path) -> Iterator[GalleryServer]:
    with gallery_server(gallery) as running:
        yield running
