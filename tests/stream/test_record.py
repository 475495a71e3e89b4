# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a session: evenly spaced, one map at a time, within bounded memory."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.geometry.similarity import Similarity
from da3_core.stream.corrections import Bend, CorrectedPose
from da3_core.stream.frame import Frame
from da3_core.stream.record import SessionRecord
from da3_core.stream.session import View, WindowResult

SIZE = (6, 8)


def view(
    stamp_ns: int,
    camera: str = "camera",
    *,
    is_new: bool = True,
    posed: bool = True,
    image: np.ndarray | None = None,
    sky: np.ndarray | None = None,
) -> View:
    world_to_camera = np.eye(4)
    world_to_camera[0, 3] = -stamp_ns
    return View(
        frame=Frame(np.zeros((12, 16, 3), np.uint8) if image is None else image, stamp_ns, camera),
        number=hash((stamp_ns, camera)),
        is_new=is_new,
        image=np.full((*SIZE, 3), stamp_ns % 256, np.uint8),
        depth=np.full(SIZE, stamp_ns + 1 / 3, np.float32),
        confidence=np.full(SIZE, 1e9 if stamp_ns == 7 else 1.5, np.float32),
        sky=sky,
        intrinsics=np.diag([5.0, 5.0, 1.0]),
        world_to_camera=world_to_camera if posed else None,
        processed_from_original=np.diag([0.5, 0.5, 1.0]),
    )


def result(*views: View, segment: int = 0, **changes: Any) -> WindowResult:
    values = {"placement": "points", "scale_source": "none", **changes}
    return WindowResult(
        views=views, scale_m_per_unit=1.0, alignment_residual=0.0, segment=segment, inference_s=0.0, **values
    )


def stamps(record: SessionRecord, scope: Any = "session") -> list[int]:
    names = record.prediction(scope).image_names
    assert names is not None
    return [int(name.removesuffix(".png")) for name in names]


def test_a_prediction_holds_the_views_as_they_were():
    record = SessionRecord(4)
    record.add(result(view(3), view(7), scale_source="model"), 0)
    prediction = record.prediction("window")
    np.testing.assert_array_equal(prediction.depth, np.stack([np.full(SIZE, s + 1 / 3, np.float32) for s in (3, 7)]))
    assert prediction.conf is not None
    assert prediction.conf.dtype == np.float32
    assert prediction.conf[0, 0, 0] == 1.5
    assert np.isfinite(prediction.conf).all()
    assert prediction.extrinsics is not None
    assert prediction.extrinsics[:, 0, 3].tolist() == [-3, -7]
    assert prediction.original_sizes is not None
    assert prediction.original_sizes.tolist() == [[12, 16]] * 2
    np.testing.assert_array_equal(prediction.original_intrinsics(), [np.diag([10.0, 10.0, 1.0])] * 2)
    assert prediction.is_metric == 1
    assert prediction.sky is None


def test_views_are_handed_out_where_they_are_by_now() -> None:
    record = SessionRecord(8)
    first, second, third = (replace(view(stamp), number=stamp) for stamp in (1, 2, 3))
    record.add(result(first, second), 0)
    moved = np.eye(4)
    moved[1, 3] = 4.0
    again = np.full(SIZE, 2.2 * (1 + 1 / 3), np.float32)
    again[0, 0] = 99.0  # another surface
    by = CorrectedPose(1, 1, "camera", moved, depth_scale=2.0, said_again=again / 4, said_scale=4.0)
    record.add(result(replace(first, is_new=False), replace(second, is_new=False), third, corrected=(by,)), 0)
    for scope in ("session", "window"):
        prediction = record.prediction(scope)
        np.testing.assert_array_equal(prediction.extrinsics[0], moved)
        np.testing.assert_allclose(prediction.depth[0, 1], 2.1 * (1 + 1 / 3), rtol=1e-6)
        np.testing.assert_allclose(prediction.depth[0, 0, 0], 2.0 * (1 + 1 / 3), rtol=1e-6)
        np.testing.assert_array_equal(prediction.depth[1], second.depth)
    twice = Bend({1: Similarity(2.0, np.eye(3), np.zeros(3))})
    record.add(result(replace(third, is_new=False), replace(view(4), number=4), bend=twice), 0)
    prediction = record.prediction()
    np.testing.assert_allclose(prediction.extrinsics[:, 0, 3], [0, -4, -6, -4])
    np.testing.assert_allclose(prediction.depth[1:], np.stack([second.depth * 2, third.depth * 2, view(4).depth]))


def test_what_is_assumed_is_recorded_as_that():
    record = SessionRecord(4)
    sources = ("known", "assumed")
    known, guessed = (replace(view(i), intrinsics_source=source) for i, source in enumerate(sources))
    record.add(result(known, guessed), 0)
    prediction = record.prediction()
    assert (prediction.intrinsics, prediction.intrinsics_source) == (None, sources)
    np.testing.assert_array_equal(prediction.assumed_intrinsics, [known.intrinsics, guessed.intrinsics])


def test_views_may_see_no_sky_beside_some_that_do():
    record = SessionRecord(4)
    sky = np.ones(SIZE, bool)
    record.add(result(view(1), view(2, sky=sky)), 0)
    np.testing.assert_array_equal(record.prediction().sky, [~sky, sky])


def test_what_one_view_lacks_is_left_out_of_all():
    record = SessionRecord(4)
    sky = np.eye(*SIZE, dtype=bool)
    record.add(result(view(1, sky=sky), view(2, sky=sky)), 0)
    known = record.prediction().sky
    assert known is not None
    assert known.dtype == np.bool_
    assert known.sum() == 2 * min(SIZE)
    record.add(result(replace(view(3, sky=sky), confidence=None)), 0)
    assert record.prediction().conf is None
    assert record.prediction().sky is not None


def test_every_new_view_once_and_the_last_window_whole():
    record = SessionRecord(100)
    record.add(result(view(1), view(2), placement="origin"), 0)
    record.add(result(view(2, is_new=False), view(3)), 0)
    assert stamps(record) == [1, 2, 3]
    assert stamps(record, "window") == [2, 3]


@pytest.mark.parametrize("max_views", [1, 5, 8])
def test_a_long_session_is_thinned_evenly(max_views: int):
    record = SessionRecord(max_views)
    for stamp in range(1000):
        record.add(result(view(stamp)), 0)
        kept = stamps(record)
        assert len(kept) <= max_views
        assert kept[0] == 0
        assert len(set(np.diff(kept))) <= 1
        if stamp + 1 >= max_views:
            assert len(kept) > (max_views - 1) // 2


def test_another_map_or_session_replaces_the_one_before():
    record = SessionRecord(100)
    record.add(result(view(1), view(2), placement="origin"), 0)
    moved = result(view(2, is_new=False), view(3), placement="last_view", segment=1)
    record.add(moved, 0)
    assert stamps(record) == [2, 3]  # the shared view has its place in the new map too
    record.add(result(view(4), segment=1), 1)
    assert stamps(record) == [4]
    record.clear()
    with pytest.raises(InputError, match="Nothing"):
        record.prediction("session")


def test_the_longest_map_stays_with_its_unit():
    record = SessionRecord(100, "longest_map")
    assert record.map is None
    for session, segment, kept in ((0, 0, 4), (0, 1, 3), (1, 1, 4), (1, 2, 5)):
        first = 100 * session + 10 * segment
        for stamp in range(first, first + kept):
            record.add(result(view(stamp), segment=segment, scale_source="none" if segment else "model"), session)
        is_longer = kept == 5
        assert record.map == ((1, 2) if is_longer else (0, 0))
        assert stamps(record) == list(range(first, first + kept) if is_longer else range(4))
        assert record.prediction().is_metric == (not is_longer)
        assert stamps(record, "window") == [first + kept - 1]
        assert record.prediction("window").is_metric == (segment == 0)


def test_any_map_is_longer_than_one_without_places():
    record = SessionRecord(100, "longest_map")
    for stamp in range(5):
        record.add(result(view(stamp, posed=False), placement="unposed"), 0)
    record.add(result(view(6), view(7), segment=1), 0)
    for stamp in range(10, 20):
        record.add(result(view(stamp, posed=False), placement="unposed", segment=2), 0)
    assert stamps(record) == [6, 7]


def test_views_without_a_place_are_left_out_where_others_have_one():
    record = SessionRecord(100)
    record.add(result(view(1, posed=False), placement="unposed"), 0)
    record.add(result(view(2, posed=False), placement="unposed"), 0)
    assert stamps(record) == [1, 2]
    assert record.prediction("session").extrinsics is None
    record.add(result(view(2, is_new=False), view(3), placement="origin"), 0)
    record.add(result(view(4, posed=False), placement="unposed"), 0)
    assert stamps(record) == [1, 2, 3, 4], "depth of what has no place is kept"
    assert record.prediction("window").extrinsics is None
    record.add(result(view(4, is_new=False, posed=False), view(5)), 0)
    assert stamps(record, "window") == [4, 5]
    assert stamps(record) == [1, 2, 3, 4, 5]
    assert record.prediction().placed.tolist() == [False, True, True, False, True]


def test_views_without_a_place_are_counted_once_and_named() -> None:
    record = SessionRecord(100)
    for stamp in range(1, 20, 2):
        lost = view(stamp, posed=stamp > 6)
        record.add(result(view(stamp - 1, is_new=False), lost, placement="points"), 0)
    assert record.unplaced == (3, ("1.png", "3.png", "5.png"))
    record.clear()
    assert record.unplaced == (0, ())


def test_the_world_is_that_of_poses_that_images_came_with_or_of_the_first_camera() -> None:
    record = SessionRecord(100)
    record.add(result(view(1), view(2), placement="origin"), 0)
    assert record.prediction().world == "first_camera"
    record.add(result(view(3), view(4), placement="known", segment=1), 0)
    assert record.prediction().world == record.prediction("window").world == "input"
    stamps_ns = record.prediction().stamps_ns
    assert stamps_ns is not None
    assert stamps_ns.tolist() == [3, 4]


def test_views_without_a_place_take_no_turn_of_others():
    record = SessionRecord(4)
    for stamp in range(0, 16, 2):
        record.add(result(view(stamp)), 0)
        record.add(result(view(stamp + 1, posed=False), placement="unposed"), 0)
    record.add(result(view(20), replace(view(21, posed=False), intrinsics=None)), 0)
    prediction = record.prediction()
    assert prediction.intrinsics is not None, "a window that found no poses knew no camera"
    assert np.flatnonzero(prediction.placed).size == 3
    names = np.array(prediction.image_names)
    assert names[prediction.placed].tolist() == ["0.png", "8.png", "20.png"]
    assert 1 <= (~prediction.placed).sum() <= 4


def test_a_rig_is_thinned_by_instants_and_named_by_camera():
    record = SessionRecord(5)
    for stamp in range(6):
        record.add(result(view(stamp, "/rig/left cam"), view(stamp, "right")), 0)
    names = ("rig_left_cam_0.png", "right_0.png", "rig_left_cam_4.png", "right_4.png")
    assert record.prediction().image_names == names


@pytest.mark.parametrize("cameras", [("camera", "camera"), ("rig/left", "rig_left")])
def test_cameras_that_are_named_alike_do_not_share_a_name(cameras: tuple[str, str]):
    record = SessionRecord(100)
    views = [view(stamp, camera) for stamp in (1, 2) for camera in cameras]
    record.add(result(*(replace(each, number=number) for number, each in enumerate(views))), 0)
    names = record.prediction().image_names
    assert names is not None
    plain = "rig_left_" if cameras[0] != cameras[1] else ""
    assert names == (f"{plain}1.png", f"{plain}1_2.png", f"{plain}2.png", f"{plain}2_2.png")


def test_of_more_cameras_than_views_each_keeps_its_first():
    record = SessionRecord(2)
    for stamp in range(9):
        record.add(result(*(view(stamp, camera) for camera in "abc")), 0)
    assert record.prediction().image_names == ("a_0.png", "b_0.png", "c_0.png")


def test_images_as_the_camera_gave_them_are_not_kept():
    record = SessionRecord(100)
    image = np.zeros((100, 100, 3), np.uint8)
    given = weakref.ref(image)
    record.add(result(view(1, image=image)), 0)
    del image
    gc.collect()
    assert given() is None
    assert stamps(record) == [1]
