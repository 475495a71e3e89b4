# SPDX-License-Identifier: Apache-2.0
"""What anybody can send to a node, any value of any field: CameraInfo and parameters.

Bounded and with a fixed seed in the suite; DA3_FUZZ_RUNS=100000 runs as many.
"""

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="makes the values up")
pytest.importorskip("rclpy", reason="the parameters are those of a node")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from da3_core.errors import InputError
from da3_core.geometry.cameras import camera_fault
from da3_core.ros_data.camera_info import image_camera
from da3_core.ros_data.images import RefusedMessage
from da3_ros.parameters import TABLE, flat, settings_from

RUNS = int(os.environ.get("DA3_FUZZ_RUNS", "300"))
bounded = settings(
    max_examples=RUNS, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

IMAGE_HW = (48, 64)
NUMBERS = st.floats(width=64) | st.sampled_from([0.0, 1.0, 32.0, 24.0, 50.0, -1.0, 1e308, 1e-308])
SIZES = st.sampled_from([0, 1, 48, 64, 96, 128, 2**32 - 1]) | st.integers(0, 2**32 - 1)
FLAT_K = [50.0, 0, 31.5, 0, 50, 23.5, 0, 0, 1]
FLAT_P = [50.0, 0, 31.5, 0, 0, 50, 23.5, 0, 0, 0, 1, 0]


def mostly(right: list[float]) -> st.SearchStrategy[list[float]]:
    """All made up, or one number of what is right."""
    size = len(right)
    one = st.tuples(st.integers(0, size - 1), NUMBERS).map(lambda at: [*right[: at[0]], at[1], *right[at[0] + 1 :]])
    return one | st.just(right) | st.lists(NUMBERS, min_size=size, max_size=size)


CAMERA_INFOS = st.fixed_dictionaries(
    {
        "k": mostly(FLAT_K),
        "p": mostly(FLAT_P),
        "r": mostly(list(np.eye(3).ravel())),
        "d": st.lists(NUMBERS, max_size=16) | st.just([0.0] * 5) | mostly([-0.2, 0.05, 0.0, 0.0, 0.0]),
        "distortion_model": st.sampled_from(["", "plumb_bob", "rational_polynomial", "equidistant"]) | st.text(),
        "width": SIZES,
        "height": SIZES,
        "binning_x": SIZES,
        "binning_y": SIZES,
        "roi": st.builds(SimpleNamespace, x_offset=SIZES, y_offset=SIZES, width=SIZES, height=SIZES),
    }
)


@bounded
@given(fields=CAMERA_INFOS, is_rectified=st.sampled_from([None, True, False]))
def test_any_camera_info_is_a_camera_none_or_refused(fields: dict[str, Any], is_rectified: bool | None) -> None:
    with np.errstate(all="ignore"):
        try:
            camera = image_camera(SimpleNamespace(**fields), IMAGE_HW, is_rectified=is_rectified)
        except RefusedMessage as refusal:
            camera, said = None, str(refusal)
        else:
            said = "CameraInfo is fine"
    assert said.startswith("CameraInfo ")
    if camera is None:
        return
    assert camera_fault(camera.intrinsics, IMAGE_HW) is None
    assert camera.rectified(np.zeros((*IMAGE_HW, 3), np.uint8)).shape == (*IMAGE_HW, 3)


VALUES = st.one_of(st.booleans(), st.integers(), st.floats(), st.text(), st.none(), st.lists(st.integers(), max_size=2))


@bounded
@given(values=st.dictionaries(st.sampled_from(sorted(TABLE)) | st.text(), VALUES, max_size=4))
def test_any_parameters_are_settings_or_refused_by_name(values: dict[str, Any]) -> None:
    try:
        chosen = settings_from(values)
    except InputError as refusal:
        said = str(refusal)
    else:
        said = "all of them are"
        assert settings_from(flat(chosen)) == chosen
    assert len(said) > 10
