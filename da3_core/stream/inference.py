# SPDX-License-Identifier: Apache-2.0
"""A model as a function of frames, which is what a session asks."""

from collections.abc import Callable, Sequence
from typing import Any

from da3_core.options import InferenceOptions
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.known_cameras import poses_to_condition_on


def bind_inference(model: Any, options: InferenceOptions) -> Callable[[Sequence[Frame]], Prediction]:
    """The inference of a `DepthAnything3` with its options; a network that sees known poses is shown them."""
    method = model.resolve_pose_method(options.pose_method, use_ray_pose=options.use_ray_pose)
    sees_poses = model.preset.has_poses and method != "features"

    def infer(frames: Sequence[Frame]) -> Prediction:
        intrinsics = [frame.intrinsics for frame in frames]
        prediction: Prediction = model.inference(
            image=[frame.image for frame in frames],
            extrinsics=poses_to_condition_on(frames) if sees_poses else None,
            intrinsics=intrinsics if all(matrix is not None for matrix in intrinsics) else None,
            use_ray_pose=options.use_ray_pose,
            pose_method=options.pose_method,
            ref_view_strategy=options.ref_view_strategy,
            process_res=options.process_res,
            process_res_method=options.process_res_method,
        )
        return prediction

    return infer
