# SPDX-License-Identifier: Apache-2.0
"""The cloud of a whole map, which a view of every camera is taken into now and then."""

from collections.abc import Iterable

from da3_core.geometry.voxel_map import VoxelMap, Voxels
from da3_core.options import MapPointsOptions
from da3_core.ros_data.outputs import ViewOutputs
from da3_core.stream.corrections import Bend


class MapPoints:
    """The voxels of the present map, of views `rate_hz` times a second by their stamps.

    Args:
        options: with a rate.
    """

    def __init__(self, options: MapPointsOptions) -> None:
        self._period_ns = 1e9 / options.rate_hz
        self._voxels = VoxelMap(options.voxel_m, options.max_voxels)
        self._taken_ns: dict[str, int] = {}

    def clear(self) -> None:
        """Another map begins."""
        self._voxels.clear()
        self._taken_ns.clear()

    def take_in(self, views: Iterable[ViewOutputs], bend: Bend | None) -> Voxels | None:
        """The map after these views, the newest of every camera where it is due; None where none is.

        Args:
            bend: how the map was moved before.
        """
        if bend is not None:
            self._voxels.bend(bend)
        newest = {each.view.frame.camera: each for each in views if _has_place(each)}
        due = {camera: each for camera, each in newest.items() if self._is_due(camera, each.view.frame.stamp_ns)}
        for camera, each in due.items():
            each.add_to(self._voxels)
            self._taken_ns[camera] = each.view.frame.stamp_ns
        return self._voxels.voxels() if due else None

    def _is_due(self, camera: str, stamp_ns: int) -> bool:
        return camera not in self._taken_ns or stamp_ns - self._taken_ns[camera] >= self._period_ns


def _has_place(outputs: ViewOutputs) -> bool:
    view = outputs.view
    has_camera = view.world_to_camera is not None and view.intrinsics is not None
    return view.is_new and has_camera and outputs.limits_are_known
