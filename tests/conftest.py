# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a small walk through the synthetic room, rendered once and then read from the cache."""

import pytest

from da3_core.synthetic import Walk, room_walk


@pytest.fixture(scope="session")
def walk() -> Walk:
    """24 frames of 240 x 320 with exact depth and cameras; treat it as read-only."""
    return room_walk(frames=24, size=(240, 320))
