# SPDX-License-Identifier: Apache-2.0
"""A model for tests of what is around models."""

import threading
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from da3_core.options import InferenceOptions
from da3_core.prediction import Prediction

WAIT_S = 20.0


class FlatWall:
    """A model that sees a wall two metres ahead, waits while `gate` is closed and fails on calls in `failing`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.views: list[int] = []  # of every call
        self.failing: Callable[[int], bool] = lambda call: False

    preset = SimpleNamespace(name="wall", has_poses=True, has_gaussians=False)

    def check(self, options: InferenceOptions) -> InferenceOptions:
        return options

    @property
    def calls(self) -> int:
        return len(self.views)

    def predict(self, image: list[np.ndarray], options: InferenceOptions, **_: object) -> Prediction:
        self.views.append(len(image))
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        if self.failing(self.calls):
            raise MemoryError(f"call {self.calls}")
        views, (height, width) = len(image), image[0].shape[:2]
        camera = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], np.float32)
        return Prediction(
            depth=np.full((views, height, width), 2, np.float32),
            extrinsics=np.tile(np.eye(4, dtype=np.float32), (views, 1, 1)),
            intrinsics=np.tile(camera, (views, 1, 1)),
            processed_images=np.stack(image),
        )
