# SPDX-License-Identifier: Apache-2.0
"""A furnished room that is known exactly: images, depth and cameras to test against, to demonstrate and to tune with.

`room_walk` renders a walk through it (or reads it from the cache), `exact.ExactModel` answers like a model but with the
truth, `bag.write_bag` makes a rosbag2 of it.
"""

from da3_core.synthetic.walk import Walk, room_walk

__all__ = ["Walk", "room_walk"]
