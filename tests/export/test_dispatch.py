# SPDX-License-Identifier: Apache-2.0
"""The dispatcher: what it refuses and when, which option wins, and that exporting is pure, repeatable and atomic."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from da3_core.errors import InputError
from da3_core.export import EXPORTERS, check_request, export, parse_formats
from da3_core.model.presets import PRESETS
from da3_core.prediction import Prediction

# Formats whose files no other format writes; glb and depth_vis share some and have their own test.
DISJOINT = [name for name in EXPORTERS if name != "depth_vis"]

Files = Callable[[Path], dict[str, bytes]]


def test_formats_are_read_in_order_and_once() -> None:
    assert parse_formats("npz-glb-npz") == ("npz", "glb")


@pytest.mark.parametrize("text", ["glb-pdf", "", "glb-", "GLB"])
def test_unknown_format_names_the_allowed_ones(text: str) -> None:
    with pytest.raises(InputError, match=r"mini_npz.*glb"):
        parse_formats(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"export_kwargs": {"glb": {"num_points": 3}}}, r"no option 'num_points'.*num_max_points"),
        ({"export_kwargs": {"pdf": {}}}, r"unknown export format 'pdf'"),
        ({"export_kwargs": {"glb": {"num_max_points": "many"}}}, r"is 'many': it must be a whole number of at least 0"),
        ({"export_kwargs": {"glb": {"num_max_points": True}}}, r"is True: it must be a whole number"),
        ({"export_kwargs": {"glb": {"num_max_points": 1e6}}}, r"is 1000000.0: it must be a whole number"),
        ({"export_kwargs": {"glb": {"sky": "blue"}}}, r"is 'blue': it must be one of drop, far, keep"),
        ({"export_kwargs": {"glb": {"filter_black_bg": 1}}}, r"must be true or false"),
        ({"export_kwargs": {"depth_vis": {"fps": 1}}}, r"no option 'fps': it has common_range"),
        ({"export_kwargs": {"npz": {"fps": 1}}}, r"no option 'fps': it has no options"),
        ({"conf_thresh_percentile": 101.0}, r"is 101.0: it must be a number from 0 to 100"),
        ({"conf_thresh_percentile": float("nan")}, r"is nan: it must be a number from 0 to 100"),
    ],
)
def test_bad_options_are_refused_before_the_model_runs(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_request("glb", PRESETS["da3-small"], views=2, **arguments)


def test_numpy_numbers_and_whole_floats_for_numbers_are_accepted() -> None:
    options = {"num_max_points": np.int64(5), "conf_thresh": 2, "sky_depth_def": np.float32(90)}
    assert check_request("glb", PRESETS["da3-small"], views=1, export_kwargs={"glb": options}) == ("glb",)


def test_cloud_of_a_model_without_poses_needs_one_view_with_known_intrinsics() -> None:
    model = PRESETS["da3mono-large"]
    for views, known in ((1, False), (2, True)):
        with pytest.raises(InputError, match=r"da3mono-large cannot be exported as 'glb'.*any-view or a nested model"):
            check_request("mini_npz-glb", model, views=views, intrinsics_known=known)
    assert check_request("mini_npz-glb", model, views=1, intrinsics_known=True) == ("mini_npz", "glb")


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPORTERS, "tum", dataclasses.replace(EXPORTERS["tum"], packages=("no_such_package",)))
    with pytest.raises(InputError, match=r"'tum' needs the package 'no_such_package'.*da3_ros\[export\]"):
        check_request("tum", PRESETS["da3-small"], views=1)


def test_explicit_options_go_before_named_arguments_before_defaults(prediction: Prediction, tmp_path: Path) -> None:
    def points(**arguments: Any) -> int:
        path, *_ = [p for p in export(prediction, tmp_path, "glb", **arguments)["glb"] if p.suffix == ".glb"]
        return len(trimesh.load(path).geometry["points"].vertices)

    assert points() > 50
    assert points(num_max_points=40) == 40
    assert points(num_max_points=None) > 50
    kwargs = {"glb": {"num_max_points": 30}, "mini_npz": {}}
    before = copy.deepcopy(kwargs)
    assert points(num_max_points=40, export_kwargs=kwargs) == 30
    assert kwargs == before


def test_any_order_and_repetition_gives_the_same_bytes_and_changes_nothing(
    prediction: Prediction, tmp_path: Path, files_under: Files
) -> None:
    before = copy.deepcopy(prediction)
    alone: dict[str, bytes] = {}
    short = {"gs_video": {"trj_mode": "original"}}
    for name in DISJOINT:
        export(prediction, tmp_path / name, name, export_kwargs=short)
        alone |= files_under(tmp_path / name)

    for order in (DISJOINT, DISJOINT[::-1]):
        folder = tmp_path / f"{order[0]} first"
        for _ in range(2):
            written = export(prediction, folder, "-".join(order), export_kwargs=short)
            assert files_under(folder) == alone
            assert {path for paths in written.values() for path in paths} == {folder / name for name in alone}

    for field in dataclasses.fields(prediction):
        now, then = getattr(prediction, field.name), getattr(before, field.name)
        if field.name == "gaussians":
            now, then = (np.concatenate([t.ravel() for t in vars(g).values()]) for g in (now, then))
        np.testing.assert_equal(now, then)


def test_options_of_depth_vis_count_whatever_else_writes_its_files(
    prediction: Prediction, tmp_path: Path, files_under: Files
) -> None:
    common = {"depth_vis": {"common_range": True}}
    for order in ("depth_vis", "depth_vis-glb", "glb-depth_vis"):
        export(prediction, tmp_path / order, order, export_kwargs=common)
    alone = files_under(tmp_path / "depth_vis")
    for order in ("depth_vis-glb", "glb-depth_vis"):
        assert alone.items() <= files_under(tmp_path / order).items()
    export(prediction, tmp_path / "per view", "depth_vis")
    assert files_under(tmp_path / "per view") != alone


@pytest.mark.parametrize("name", ["depth_vis", "glb", "npz"])
def test_a_writer_that_fails_half_way_leaves_nothing(
    prediction: Prediction, tmp_path: Path, files_under: Files, name: str
) -> None:
    assert prediction.processed_images is not None
    broken = dataclasses.replace(
        prediction,
        processed_images=prediction.processed_images[:-1],  # the last view has no image
        original_sizes=np.array([object()]),  # cannot be stored without pickle
    )
    with pytest.raises((IndexError, ValueError)):
        export(broken, tmp_path / "new/deep", name)
    assert list(tmp_path.iterdir()) == []

    export(prediction, tmp_path, name)
    before = files_under(tmp_path)
    with pytest.raises((IndexError, ValueError)):
        export(broken, tmp_path, name)
    assert files_under(tmp_path) == before


def test_what_the_prediction_lacks_is_refused_before_anything_is_written(monocular: Prediction, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this prediction cannot be exported as 'glb'"):
        export(monocular, tmp_path / "out", "mini_npz-glb")
    assert not (tmp_path / "out").exists()


def test_a_path_is_only_a_path(prediction: Prediction, tmp_path: Path, files_under: Files) -> None:
    export(prediction, tmp_path / "plain", "glb")
    odd = tmp_path / 'it\'s a "$(touch pwned)"; touch pwned & 深度'
    export(prediction, str(odd), "glb")
    assert files_under(odd) == files_under(tmp_path / "plain")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["plain", odd.name])


def test_a_file_in_the_place_of_the_folder_is_named(prediction: Prediction, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match=r"cannot make the export folder .*out"):
        export(prediction, tmp_path / "out", "mini_npz")
