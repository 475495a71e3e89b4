# SPDX-License-Identifier: Apache-2.0
"""The budget of memory: smaller windows, then fewer pixels, then a refusal."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from da3_core.errors import InputError
from da3_core.model.presets import PRESETS
from da3_ros.budget import fitted, inference_bytes, told
from da3_ros.parameters import settings_from
from da3_ros.settings import Settings

PRESET = PRESETS["da3-base"]


def asked(budget_mb: float, **values: object) -> Settings:
    return settings_from({"window.size": 8, "window.stride": 2, "memory.budget_mb": budget_mb, **values})


def test_windows_shrink_first_then_pixels_and_what_became_less_is_told() -> None:
    everything = inference_bytes(asked(0.0), PRESET) / 1e6
    for budget_mb in (0.0, everything * 1.01):
        assert fitted(asked(budget_mb), PRESET) == asked(budget_mb)
        assert told(asked(budget_mb), asked(budget_mb)) is None
    some = fitted(asked(everything * 0.6), PRESET)
    assert 3 <= some.window.size < 8
    assert some.process_res == asked(0.0).process_res
    little = fitted(asked(everything * 0.2), PRESET)
    assert little.window.size == 3, "one more than the stride"
    assert 140 <= little.process_res < PRESET.process_res
    for chosen, share in ((some, 0.6), (little, 0.2)):
        assert inference_bytes(chosen, PRESET) <= share * everything * 1e6
    assert "windows of 3 images instead of 8" in str(told(asked(everything * 0.2), little))
    single = fitted(asked(everything * 0.1, **{"window.size": 1, "window.stride": 1}), PRESET)
    assert single.window.size == 1


def test_what_cannot_fit_is_refused_with_what_it_needs() -> None:
    with pytest.raises(InputError, match=r"memory\.budget_mb is 1, and windows of 3 images at process_res 1\d\d need"):
        fitted(asked(1.0), PRESET)


def test_a_rig_needs_as_many_views_as_it_has_cameras() -> None:
    rig = asked(0.0, cameras="left,right")
    twice = asked(0.0, **{"window.size": 16})
    assert inference_bytes(rig, PRESET) == inference_bytes(twice, PRESET) > inference_bytes(asked(0.0), PRESET)
