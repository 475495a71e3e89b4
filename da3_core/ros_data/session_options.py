# SPDX-License-Identifier: Apache-2.0
"""What a session is told, in the words of the node's parameters and of the options of bags."""

from da3_core.options import LiveScale, MapUp
from da3_core.stream.session import SessionOptions, SessionScale, UpSource

_SCALES: dict[LiveScale, SessionScale] = {
    "auto": "auto",
    "poses": "poses",
    "model": "model",
    "depth_topic": "depth",
    "camera_height": "height",
    "fixed": "fixed",
    "none": "none",
}
_UPS: dict[MapUp, UpSource] = {"camera": "first camera", "imu": "imu", "tf": "tf", "floor": "floor"}


def session_options(
    scale: LiveScale, fixed_m_per_unit: float, camera_height_m: float, up: MapUp, *, alignment_views: int | None
) -> SessionOptions:
    """See `SessionOptions`."""
    return SessionOptions(_SCALES[scale], fixed_m_per_unit, camera_height_m, alignment_views, _UPS[up])
