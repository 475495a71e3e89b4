# SPDX-License-Identifier: Apache-2.0
"""The live node with a model that knows the room: true depth and cameras, under a new random similarity per call."""

from da3_core.synthetic import Walk, room_walk

WALK_FRAMES, HEIGHT, WIDTH = 24, 126, 168


def known_walk() -> Walk:
    """The frames that the tests publish and the model recognises; multiples of 14, so that nothing is resampled."""
    return room_walk(frames=WALK_FRAMES, size=(HEIGHT, WIDTH), seed=5)


if __name__ == "__main__":
    from da3_core.synthetic.exact import ExactModel
    from da3_ros.node import main

    main(load_model=lambda settings: ExactModel(known_walk()))
