# SPDX-License-Identifier: Apache-2.0
"""The live node with a model that knows the room: true depth and cameras, under a new random similarity per call.

`--own-world`: always in metres and in the room's own world. `--demo`: it knows the walk of the demonstration.
`--endless load` or `--endless inference`: that takes a minute.
"""

import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from da3_core.synthetic import Walk, room_walk

WALK_FRAMES, HEIGHT, WIDTH = 24, 126, 168


def known_walk() -> Walk:
    """The frames that the tests publish and the model recognises; multiples of 14, so that nothing is resampled."""
    return room_walk(frames=WALK_FRAMES, size=(HEIGHT, WIDTH), seed=5)


def note_first_calls(module: ModuleType, *names: str) -> None:
    """Have functions of a module say so when they are first called: `made point_cloud`."""

    def noting(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name not in called:
                called.add(name)
                print(f"made {name}", flush=True)
            return make(*args, **kwargs)

        return call

    called: set[str] = set()
    for name in names:
        setattr(module, name, noting(name, getattr(module, name)))


def take_a_minute(doing: str) -> None:
    print(f"endless {doing}", flush=True)
    time.sleep(60)


if __name__ == "__main__":
    from da3_core.ros_data import outputs
    from da3_core.synthetic.exact import ExactModel
    from da3_ros.demo.run import CAMERA_SIZE, WALK_FRAMES
    from da3_ros.node import main

    note_first_calls(outputs, "depth_in_millimetres", "point_cloud", "colorize_depth")
    walk = room_walk(WALK_FRAMES, CAMERA_SIZE) if "--demo" in sys.argv else known_walk()
    endless = sys.argv[sys.argv.index("--endless") + 1] if "--endless" in sys.argv else ""

    class Model(ExactModel):
        def predict(self, *arguments: Any, **options: Any) -> Any:
            if endless == "inference":
                take_a_minute(endless)
            return super().predict(*arguments, **options)

    def load_model(settings: Any) -> Model:
        if endless == "load":
            take_a_minute(endless)
        return Model(walk, similarity="--own-world" not in sys.argv)

    main(load_model=load_model)
