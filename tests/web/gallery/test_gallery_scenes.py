# SPDX-License-Identifier: Apache-2.0
"""Which folders are scenes, in which groups, and how many points they have."""

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from da3_core.formats.gltf import LINES, POINTS, Mesh, write_glb
from da3_core.web.gallery.glb import count_points
from da3_core.web.gallery.scenes import Gallery, Group

MakeScene = Callable[[Path], Path]


def glb_of_points(count: bytes) -> bytes:
    document = (
        b'{"meshes":[{"primitives":[{"mode":0,"attributes":{"POSITION":0}}]}],"accessors":[{"count":%b}]}' % count
    )
    return struct.pack("<4sIII4s", b"glTF", 2, 100, len(document), b"JSON") + document


def ids(gallery: Gallery, group: str) -> list[str]:
    return [scene.id for scene in gallery.scenes(group)]


def test_groups_and_scenes_have_the_order_of_their_names_and_show_at_once(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    gallery = Gallery(tmp_path)
    assert gallery.groups() == []
    for name in ("b/2", "b/10", "a/x", "_z/x"):
        make_scene(tmp_path / name)
    assert [group.id for group in gallery.groups()] == ["_z", "a", "b"]
    assert ids(gallery, "b") == ["10", "2"]
    make_scene(tmp_path / "one")
    assert gallery.groups()[0] == Group("_root", "Scenes")
    assert (ids(gallery, "_root"), ids(gallery, "one"), ids(gallery, "no such")) == (["one"], [], [])


def test_the_folder_may_be_a_scene_itself(tmp_path: Path, make_scene: MakeScene) -> None:
    gallery = Gallery(make_scene(tmp_path / "output"))
    (scene,) = gallery.scenes("_root")
    assert (scene.id, scene.title, scene.model) == (".", "output", Path("scene.glb"))
    opened = gallery.open_file("scene.glb")
    assert opened is not None
    with opened:
        assert opened.read() == (tmp_path / "output/scene.glb").read_bytes()


@pytest.mark.parametrize("missing", ["scene.glb", "scene.jpg"])
def test_a_scene_without_model_or_picture_is_hidden_and_so_is_its_group(
    tmp_path: Path, make_scene: MakeScene, missing: str
) -> None:
    folder = make_scene(tmp_path / "group/scene")
    (folder / missing).unlink()
    gallery = Gallery(tmp_path)
    assert (gallery.groups(), gallery.scenes("group")) == ([], [])
    (folder / missing).mkdir()
    assert (gallery.groups(), gallery.scenes("group")) == ([], [])


@pytest.mark.parametrize("name", [b".hidden", b"back\\slash", b"no utf-8 \xff", b"line\nbreak", b"bell\x07"])
def test_names_that_fit_in_no_address_are_hidden(tmp_path: Path, make_scene: MakeScene, name: bytes) -> None:
    make_scene(tmp_path / os.fsdecode(name) / "scene")
    make_scene(tmp_path / "group" / os.fsdecode(name))
    assert Gallery(tmp_path).groups() == []


def test_a_link_is_followed_inside_and_not_outside(tmp_path: Path, make_scene: MakeScene) -> None:
    root = tmp_path / "root"
    inside, outside = make_scene(root / "group/inside"), make_scene(tmp_path / "outside")
    (root / "group/a link inside").symlink_to(inside)
    (root / "group/a link outside").symlink_to(outside)
    (root / "group/half a scene").mkdir()
    (root / "group/half a scene/scene.glb").symlink_to(inside / "scene.glb")
    (root / "group/half a scene/scene.jpg").symlink_to(outside / "scene.jpg")
    (tmp_path / "the root").symlink_to(root)
    assert ids(Gallery(tmp_path / "the root"), "group") == ["a link inside", "inside"]


def test_pictures_and_downloads_are_those_that_exporters_write(tmp_path: Path, make_scene: MakeScene) -> None:
    folder = make_scene(tmp_path / "s")
    images = ["0000.JPG", "0001.png", "0002.webp"]
    downloads = [
        "exports/mini_npz/results.npz",
        "exports/npz/results.npz",
        "points.ply",
        "gs_ply/0000.ply",
        "gs_video/0000_extend.mp4",
        "feat_vis/feat_layer_5.mp4",
    ]
    for name in [*(f"depth_vis/{image}" for image in images), *downloads]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name in ("depth_vis/.0003.jpg", "depth_vis/readme.txt", "exports/.npz-x1/results.npz", "cameras.bin", "in.mov"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    gallery = Gallery(tmp_path)
    (scene,) = gallery.scenes("_root")
    assert gallery.depth_images(scene) == [Path("s/depth_vis") / image for image in images]
    assert gallery.downloads(scene) == [Path("s") / name for name in downloads]


def test_points_are_counted_without_the_lines(tmp_path: Path) -> None:
    vertices, colors = np.zeros((5, 3)), np.zeros((5, 3), np.uint8)
    meshes = [Mesh("a", POINTS, vertices, colors), Mesh("b", LINES, vertices[:4], colors[:4])]
    for name, content, count in (("ab", meshes, 5), ("b", meshes[1:], 0), ("nothing", [], 0)):
        write_glb(tmp_path / name, content, {})
        assert count_points(io.BytesIO((tmp_path / name).read_bytes())) == count


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"glTF",
        b"\x89PNG" + bytes(100),
        struct.pack("<4sIII4s", b"glTF", 2, 100, 0xFFFFFFFF, b"JSON") + b"{}",
        struct.pack("<4sIII4s", b"glTF", 2, 100, 2, b"BIN\0") + b"{}",
        struct.pack("<4sIII4s", b"glTF", 2, 100, 4, b"JSON") + b"[1]x",
        struct.pack("<4sIII4s", b"glTF", 2, 100, 2, b"JSON") + b"[]",
        struct.pack("<4sIII4s", b"glTF", 2, 100, 14, b"JSON") + b'{"meshes":[1]}',
        struct.pack("<4sIII4s", b"glTF", 2, 100, 200_000, b"JSON") + b"[" * 200_000,
        glb_of_points(b"1e999"),
        glb_of_points(b"NaN"),
    ],
)
def test_a_broken_file_has_no_count(content: bytes) -> None:
    assert count_points(io.BytesIO(content)) is None
