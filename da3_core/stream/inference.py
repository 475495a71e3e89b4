# SPDX-License-Identifier: Apache-2.0
"""A model as a function of frames, which is what a session asks."""

from collections.abc import Callable, Sequence
from typing import Any

from da3_core.options import InferenceOptions
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.known_cameras import poses_to_condition_on


def bind_inference(model: Any, options: InferenceOptions) -> Callable[[Sequence[Frame]], Prediction]:
    """The inference of a `DepthAnything3` with its options; a network that sees known poses is shown them.

    Raises:
        InputError: the model cannot do what the options ask for.
    """
    chosen = model.check(options)
    sees_poses = model.preset.has_poses and chosen.pose_method != "features"

    def infer(frames: Sequence[Frame]) -> Prediction:
        intrinsics = [frame.intrinsics for frame in frames]
        prediction: Prediction = model.predict(
            [frame.image for frame in frames],
            chosen,
            extrinsics=poses_to_condition_on(frames) if sees_poses else None,
            intrinsics=intrinsics if all(matrix is not None for matrix in intrinsics) else None,
        )
        return prediction

    return infer
