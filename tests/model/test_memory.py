# SPDX-License-Identifier: Apache-2.0
"""The estimate of how many views fit is on the safe side of what was measured, and follows size and model."""

import pytest

from da3_core.errors import InputError
from da3_core.model.memory import USABLE_SHARE, check_memory, operations, views_that_fit
from da3_core.model.presets import find_preset

MIB = 2**20


# Peak memory above that of the loaded model, in float32 on a CPU.
@pytest.mark.parametrize(
    ("name", "views", "pixels", "measured_bytes"),
    [
        ("da3-small", 192, 112 * 112, 563 * MIB),
        ("da3-small", 8, 378 * 504, 883 * MIB),
        ("da3-base", 4, 378 * 504, 939 * MIB),
    ],
)
def test_no_more_views_are_said_to_fit_than_did(name: str, views: int, pixels: int, measured_bytes: int) -> None:
    assert views_that_fit(find_preset(name), pixels, int(measured_bytes / USABLE_SHARE)) <= views


def test_models_and_sizes_are_told_apart() -> None:
    def fit(name: str, pixels: int = 378 * 504, gib: float = 16) -> int:
        return views_that_fit(find_preset(name), pixels, int(gib * 1024 * MIB))

    assert fit("da3-small") > fit("da3-base") > fit("da3-giant") > fit("da3nested-giant-large") > 8
    assert fit("da3-base", gib=32) > 2 * fit("da3-base")
    assert fit("da3-base", 2 * 378 * 504) < fit("da3-base") / 2
    assert fit("da3-giant", gib=0.1) == 1


def test_time_grows_faster_than_the_number_of_views_where_they_meet() -> None:
    def growth(name: str) -> float:
        preset = find_preset(name)
        return operations(preset, 378 * 504, 200) / operations(preset, 378 * 504, 100)

    assert growth("da3-large") > 2.5
    assert growth("da3mono-large") == pytest.approx(2)
    assert operations(find_preset("da3-giant"), 378 * 504, 10) > 5 * operations(find_preset("da3-base"), 378 * 504, 10)


def test_only_a_pass_that_is_sure_to_fail_is_refused() -> None:
    preset, pixels, gib = find_preset("da3-giant"), 378 * 504, 1024 * MIB
    for free in (4 * gib, 16 * gib, 64 * gib):
        check_memory(preset, pixels, views_that_fit(preset, pixels, free), free)
    with pytest.raises(InputError, match=r"200 views of 0\.2 megapixels need about .* GB, and 4\.3 GB are free"):
        check_memory(preset, pixels, 200, 4 * gib)
