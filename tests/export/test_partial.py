# SPDX-License-Identifier: Apache-2.0
"""Exports of predictions in which some views have no pose, or in which there are several maps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from da3_core.errors import InputError
from da3_core.export import EXPORTERS, export, left_out
from da3_core.formats.colmap_model import read_model
from da3_core.prediction import Prediction

POSED = [name for name, each in EXPORTERS.items() if each.poses and not name.startswith("gs_")]


def without(prediction: Prediction, segments: list[int]) -> Prediction:
    numbers = np.array(segments)
    assert prediction.extrinsics is not None
    extrinsics = np.where((numbers < 0)[:, None, None], np.float32(np.nan), prediction.extrinsics)
    return replace(prediction, gaussians=None, segments=numbers, extrinsics=extrinsics)


def test_a_view_without_a_pose_is_left_out_where_poses_matter_and_nowhere_else(
    prediction: Prediction, tmp_path: Path
) -> None:
    partial, rest = without(prediction, [0, -1, 0]), np.array([0, 2])
    alone = replace(prediction.views(rest), segments=None)
    export(partial, tmp_path / "some", "-".join([*POSED, "depth_vis", "depth_png"]))
    export(alone, tmp_path / "alone", "ply-glb-colmap")
    for name in ("points.ply", "scene.glb", "sparse/0/points3D.bin", "sparse/0/cameras.bin"):
        assert (tmp_path / "some" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    rows = np.loadtxt(tmp_path / "some/trajectory.txt")
    assert rows[:, 0].tolist() == [0, 2]
    np.testing.assert_allclose(rows[:, 1], [0, 1])
    assert len(list((tmp_path / "some/depth_vis").iterdir())) == 3
    with np.load(tmp_path / "some/exports/mini_npz/results.npz") as arrays:
        assert arrays["placed"].tolist() == [True, False, True]
        assert arrays["segment"].tolist() == [0, -1, 0]
        assert np.isnan(arrays["extrinsics"][1, :3]).all()
        np.testing.assert_array_equal(arrays["depth"], prediction.depth)
    names = [image.name for image in read_model(tmp_path / "some/sparse/0")[1]]
    assert names == ["left/a.jpg", "ri ght/ä.jpg"]


def test_every_map_has_files_of_its_own_the_largest_first(prediction: Prediction, tmp_path: Path) -> None:
    files = export(without(prediction, [0, 1, 1]), tmp_path, "tum-ply-kitti-nerfstudio-colmap-glb")
    assert np.loadtxt(tmp_path / "trajectory.txt")[:, 0].tolist() == [1, 2]
    assert np.loadtxt(tmp_path / "map_2/trajectory.txt", ndmin=2)[:, 0].tolist() == [0]
    assert (tmp_path / "map_2/kitti/times.txt").read_text() == "0\n"
    frames = json.loads((tmp_path / "map_2/nerfstudio/transforms.json").read_text())["frames"]
    assert [frame["file_path"] for frame in frames] == ["images/000000.png"]
    assert {path.name for path in files["glb"] if path.parent == tmp_path / "map_2"} == {"scene.glb", "scene.jpg"}
    assert len(trimesh.load(tmp_path / "map_2/points.ply").vertices) > 0
    assert files["ply"] == [tmp_path / "map_2/points.ply", tmp_path / "points.ply"]


def test_without_any_pose_what_needs_none_is_written(prediction: Prediction, tmp_path: Path) -> None:
    lost = replace(without(prediction, [-1, -1, -1]), extrinsics=None)
    files = export(lost, tmp_path, "tum-depth_png-glb-mini_npz")
    assert files["tum"] == []
    assert len(files["depth_png"]) == 3
    assert {path.parent.name for path in files["glb"]} == {"depth_vis"}
    with np.load(files["mini_npz"][0]) as arrays:
        assert not arrays["placed"].any()
    with pytest.raises(InputError, match="cannot be exported as 'tum'"):
        export(lost, tmp_path / "none", "tum-ply")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([0, -1, 0], "view 1 (b.jpg) of 3 could not be placed and has no pose in glb, mini_npz"),
        ([-1, -1, 0], "views 0 to 1 (a.jpg, b.jpg) of 3 could not be placed and have no pose in glb, mini_npz"),
        ([0, 1, 1], "the 3 views make 2 maps: 1 to 2; 0"),
        ([0, 0, 0], None),
    ],
)
def test_one_sentence_names_the_views(prediction: Prediction, segments: list[int], expected: str | None) -> None:
    partial = without(prediction, segments)
    assert left_out(partial, "glb-mini_npz-depth_vis") == expected
    assert left_out(partial, "depth_vis") is None
    of_a_session = left_out(partial, "glb-depth_png", (3, ("1.png", "2.png")))
    if partial.maps:
        assert of_a_session == "3 images could not be placed and have no pose in glb: 1.png, 2.png and 1 more"
    else:
        assert of_a_session == left_out(partial, "glb")
    assert left_out(partial, "depth_png", (3, ("1.png",))) is None
    assert left_out(prediction, "glb") is None
