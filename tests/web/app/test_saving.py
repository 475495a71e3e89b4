# SPDX-License-Identifier: Apache-2.0
"""Scenes saved under typed names: always within the gallery, never over another, and found by it."""

from pathlib import Path

import pytest

from da3_core.errors import InputError
from da3_core.web.app.saving import sanitise_name, save_scene
from da3_core.web.gallery.scenes import Gallery


@pytest.fixture
def result(tmp_path: Path) -> Path:
    folder = tmp_path / "result"
    (folder / "depth_vis").mkdir(parents=True)
    for name in ("scene.glb", "scene.jpg", "depth_vis/0000.jpg", "points.ply"):
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Living room", "Living room"),
        ("../../etc/passwd", "etc_passwd"),
        ("/root", "root"),
        ("a/b\\c", "a_b_c"),
        (".hidden", "hidden"),
        ("_root", "root"),
        ("Küche (2)", "Küche (2)"),
        ("<b>x</b>", "b_x_b"),
        ("tab\tline\n", "tab_line"),
        ("x" * 200, "x" * 64),
    ],
)
def test_names_become_those_of_plain_folders(typed: str, name: str) -> None:
    assert sanitise_name(typed, "scene") == name


@pytest.mark.parametrize("typed", ["", "  ", "..", "///", "._ ."])
def test_names_of_nothing_are_refused(typed: str) -> None:
    with pytest.raises(InputError, match="use letters or digits"):
        sanitise_name(typed, "group")


def test_a_saved_scene_is_one_of_the_gallery(result: Path, tmp_path: Path) -> None:
    saved = save_scene(result, tmp_path / "gallery", "../rooms", "my room")
    assert saved == tmp_path / "gallery/rooms/my room"
    assert (saved / "scene.glb").read_bytes() == b"scene.glb"
    assert [scene.title for scene in Gallery(tmp_path / "gallery").scenes("rooms")] == ["my room"]
    assert (saved / "depth_vis/0000.jpg").is_file()
    assert not (saved / "points.ply").exists()
    assert [path.name for path in tmp_path.iterdir()] in (["result", "gallery"], ["gallery", "result"])


def test_nothing_is_saved_over_another_scene(result: Path, tmp_path: Path) -> None:
    saved = save_scene(result, tmp_path / "gallery", "rooms", "one")
    (result / "scene.glb").write_bytes(b"another")
    with pytest.raises(InputError, match="choose another name"):
        save_scene(result, tmp_path / "gallery", "rooms", "one")
    assert (saved / "scene.glb").read_bytes() == b"scene.glb"
    assert [path.name for path in saved.parent.iterdir()] == ["one"]


def test_without_a_cloud_there_is_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reconstruct one first"):
        save_scene(tmp_path, tmp_path / "gallery", "rooms", "one")
    assert not (tmp_path / "gallery").exists()


def test_a_group_that_is_a_link_out_of_the_gallery_is_refused(result: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery/rooms").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="the group 'rooms' leads out of the gallery"):
        save_scene(result, tmp_path / "gallery", "rooms", "one")
    assert list((tmp_path / "outside").iterdir()) == []
