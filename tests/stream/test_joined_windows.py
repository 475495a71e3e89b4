# SPDX-License-Identifier: Apache-2.0
"""Windows joined into one prediction, against the true room and under a new world and unit in every window."""

import logging
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import fit_similarity
from da3_core.prediction import Prediction
from da3_core.stream.joined_windows import join_windows, split_windows
from da3_core.synthetic import room_walk
from da3_core.synthetic.exact import ExactModel
from da3_core.synthetic.walk import Walk

FRAMES, SIZE = 40, (60, 80)


@pytest.fixture(scope="module")
def walk() -> Walk:
    return room_walk(FRAMES, SIZE, seed=3)


def joined(model: ExactModel, walk: Walk, size: int, overlap: int) -> Prediction:
    windows = split_windows(len(walk.images), size, overlap)
    predictions = (model.inference([walk.images[i] for i in window], process_res=84) for window in windows)
    return join_windows(windows, predictions, same_world=False)


@pytest.mark.parametrize("views", [1, 2, 7, 8, 9, 12, 13, 100])
@pytest.mark.parametrize(("size", "overlap"), [(8, 4), (8, 3), (2, 1), (5, 0), (9, 8)])
def test_windows_cover_every_view_and_share_enough(views: int, size: int, overlap: int) -> None:
    windows = split_windows(views, size, overlap)
    assert windows[0].start == 0
    assert windows[-1].stop == views
    assert {len(window) for window in windows} == {min(views, size)}
    for previous, window in pairwise(windows):
        assert previous.stop - window.start >= overlap
        assert window.start > previous.start


def test_one_world_and_one_unit_come_out_of_many(walk: Walk) -> None:
    result = joined(ExactModel(walk), walk, size=8, overlap=4)
    assert result.extrinsics is not None
    camera_to_world = invert_rigid(result.extrinsics.astype(np.float64))
    to_truth = fit_similarity(camera_to_world[:, :3, 3], walk.camera_to_world[:, :3, 3])
    in_truth = to_truth.transform_camera(camera_to_world)

    path_m = np.linalg.norm(np.ptp(walk.camera_to_world[:, :3, 3], axis=0))
    assert np.abs(in_truth[:, :3, 3] - walk.camera_to_world[:, :3, 3]).max() < 1e-4 * path_m
    assert np.abs(in_truth[:, :3, :3] - walk.camera_to_world[:, :3, :3]).max() < 1e-4
    reference = ExactModel(walk, similarity=False).inference(list(walk.images), process_res=84)
    np.testing.assert_allclose(result.depth * to_truth.scale, reference.depth, rtol=1e-4)
    assert np.array_equal(result.processed_images, reference.processed_images)
    assert len(result.original_sizes) == len(result.conf) == len(result.intrinsics) == FRAMES


def test_noise_outliers_and_holes_bend_the_path_by_less_than_a_percent(walk: Walk) -> None:
    result = joined(ExactModel(walk, depth_noise=0.01, outliers=0.05, holes=0.05), walk, size=16, overlap=8)
    assert result.extrinsics is not None
    centres = invert_rigid(result.extrinsics.astype(np.float64))[:, :3, 3]
    truth_m = walk.camera_to_world[:, :3, 3]
    errors_m = np.linalg.norm(fit_similarity(centres, truth_m).apply(centres) - truth_m, axis=1)
    assert errors_m.max() < 0.01 * np.linalg.norm(np.ptp(truth_m, axis=0))


def test_shared_views_keep_what_the_earlier_window_said_and_names_stay_in_order(walk: Walk) -> None:
    windows = [range(3), range(1, 4)]
    exact = ExactModel(walk, similarity=False)
    first, second = (
        replace(
            exact.inference([walk.images[i] for i in window], process_res=84),
            image_names=tuple(f"{i}.png" for i in window),
            aux={"feat_layer_5": np.full((3, 2, 2, 4), window.start), "pose_alignment": object()},
            scale_factor=2.0 + window.start,
        )
        for window in windows
    )
    result = join_windows(windows, [first, second], same_world=True)
    assert result.image_names == ("0.png", "1.png", "2.png", "3.png")
    assert result.aux["feat_layer_5"][:, 0, 0, 0].tolist() == [0, 0, 0, 1]
    assert list(result.aux) == ["feat_layer_5"]
    assert result.scale_factor == 2.0
    assert np.array_equal(result.depth, np.concatenate([first.depth, second.depth[2:]]))


def test_a_window_that_does_not_match_is_placed_by_one_camera_with_a_warning(
    walk: Walk, caplog: pytest.LogCaptureFixture
) -> None:
    exact = ExactModel(walk)
    windows = [range(4), range(2, 6)]
    first, second = (exact.inference([walk.images[i] for i in window], process_res=84) for window in windows)
    random = np.random.default_rng(0).uniform(0.1, 10, second.depth.shape).astype(np.float32)
    assert second.extrinsics is not None
    upside_down = np.diag([1, -1, -1, 1]).astype(np.float32) @ second.extrinsics
    upside_down[0] = second.extrinsics[0]
    with caplog.at_level(logging.WARNING):
        result = join_windows(windows, [first, replace(second, depth=random, extrinsics=upside_down)], same_world=False)
    assert "views 2 to 5 do not match" in caplog.text
    assert "from one camera they share" in caplog.text
    assert np.isfinite(result.extrinsics).all()


def test_a_single_window_comes_out_as_it_went_in(walk: Walk) -> None:
    prediction = ExactModel(walk).inference([walk.images[0]], process_res=84)
    assert join_windows([range(1)], [prediction], same_world=False) is prediction


def test_metres_are_those_of_all_windows_on_average(walk: Walk) -> None:
    exact, wrong = ExactModel(walk, similarity=False), (0.8, 1.05, 0.95, 1.0, 1.05, 0.95)
    windows = [range(start, start + 4) for start in range(0, 12, 2)]
    predictions = []
    for window, factor in zip(windows, wrong, strict=True):
        prediction = exact.inference([walk.images[i] for i in window], process_res=84)
        assert prediction.extrinsics is not None
        cameras = prediction.extrinsics.copy()
        cameras[:, :3, 3] *= factor
        depth = prediction.depth * np.float32(factor)
        predictions.append(replace(prediction, is_metric=1, depth=depth, extrinsics=cameras))
    result = join_windows(windows, predictions, same_world=False)
    assert result.extrinsics is not None
    truth = exact.inference(walk.images[:14], process_res=84)
    assert np.median(result.depth / truth.depth) == pytest.approx(1, abs=0.04)
    lengths = [
        np.linalg.norm(np.diff(invert_rigid(each)[:, :3, 3], axis=0), axis=1).sum()
        for each in (result.extrinsics, truth.extrinsics)
    ]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.04)


def test_windows_of_different_image_sizes_are_refused(walk: Walk) -> None:
    exact = ExactModel(walk)
    predictions = [exact.inference([walk.images[0]] * 2, process_res=size) for size in (84, 70)]
    with pytest.raises(InputError, match="differ in size"):
        join_windows([range(2), range(1, 3)], predictions, same_world=False)


def test_one_window_may_see_no_sky(walk: Walk) -> None:
    model, windows = ExactModel(walk), [range(4), range(2, 6)]
    first, second = (model.inference([walk.images[i] for i in window], process_res=84) for window in windows)
    sky = np.zeros(second.depth.shape, bool)
    sky[:, :9] = True
    result = join_windows(windows, [first, replace(second, sky=sky)], same_world=False)
    assert result.sky is not None
    assert result.sky[:, 0, 0].tolist() == [False] * 4 + [True] * 2
