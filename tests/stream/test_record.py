# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a session: evenly spaced, one map at a time, within bounded memory."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.stream.frame import Frame
from da3_core.stream.record import SessionRecord
from da3_core.stream.session import View, WindowResult

SIZE = (6, 8)


def view(stamp_ns: int, *, is_new: bool = True, posed: bool = True, image: np.ndarray | None = None) -> View:
    camera = np.eye(4)
    camera[0, 3] = -stamp_ns
    return View(
        frame=Frame(np.zeros((12, 16, 3), np.uint8) if image is None else image, stamp_ns),
        is_new=is_new,
        image=np.full((*SIZE, 3), stamp_ns % 256, np.uint8),
        depth=np.full(SIZE, stamp_ns + 1 / 3, np.float32),
        confidence=np.full(SIZE, 1e9 if stamp_ns == 7 else 1.5, np.float32),
        sky=None,
        intrinsics=np.diag([5.0, 5.0, 1.0]),
        world_to_camera=camera if posed else None,
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


def test_views_without_a_place_are_left_out_where_others_have_one():
    record = SessionRecord(100)
    record.add(result(view(1, posed=False), placement="unposed"), 0)
    record.add(result(view(2, posed=False), placement="unposed"), 0)
    assert stamps(record) == [1, 2]
    assert record.prediction("session").extrinsics is None
    record.add(result(view(2, is_new=False), view(3), placement="origin"), 0)
    record.add(result(view(4, posed=False), placement="unposed"), 0)
    assert stamps(record) == [2, 3]
    assert record.prediction("window").extrinsics is None


def test_images_as_the_camera_gave_them_are_not_kept():
    record = SessionRecord(100)
    image = np.zeros((100, 100, 3), np.uint8)
    given = weakref.ref(image)
    record.add(result(view(1, image=image)), 0)
    del image
    gc.collect()
    assert given() is None
    assert stamps(record) == [1]
