# SPDX-License-Identifier: Apache-2.0
"""A view in the pixels of its image as the camera gave it, not of the smaller one that the network saw."""

from dataclasses import replace

import numpy as np

from da3_core.geometry.upsampling import resampled, upsample_guided
from da3_core.stream.session import View


def at_camera_size(view: View) -> View:
    """The same view with the image of its frame, intrinsics to match and depth by `upsample_guided`.

    Confidence is interpolated, sky that of the nearest pixel. Depth is unknown beyond what the network saw of a cropped
    image. A view of which it is not known how its image was processed is as it was.
    """
    to_seen, image = view.processed_from_original, view.frame.image
    if to_seen is None:
        return view
    size = image.shape[:2]
    sky, confidence, intrinsics = view.sky, view.confidence, view.intrinsics
    return replace(
        view,
        image=image,
        depth=upsample_guided(view.depth, view.image, image, to_seen),
        confidence=None if confidence is None else resampled(confidence, to_seen, size, nearest=False),
        sky=None if sky is None else resampled(sky.astype(np.uint8), to_seen, size, nearest=True).astype(bool),
        intrinsics=None if intrinsics is None else np.linalg.inv(to_seen) @ intrinsics,
        processed_from_original=np.eye(3),
    )
