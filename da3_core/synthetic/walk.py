# SPDX-License-Identifier: Apache-2.0
"""A walk through the furnished room: rendered once for each set of parameters, then read from the user's cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.cameras import check_intrinsics
from da3_core.storage.files import user_cache
from da3_core.storage.staging import staged_file
from da3_core.synthetic.path import orbit
from da3_core.synthetic.render import Camera, LitScene, render_depth
from da3_core.synthetic.room import furnished_room
from da3_core.synthetic.scene import Scene

FIELD_OF_VIEW_DEG = 70.0
_SMALLEST_SIDE, _LARGEST_SIDE = 16, 4096
_BYTES_PER_PIXEL, _LARGEST_GIGABYTES = 3 + 4, 16
_GENERATOR = [
    "brushes",
    "lighting",
    "path",
    "patterns",
    "pictures",
    "render",
    "room",
    "scene",
    "shapes",
    "textures",
    "walk",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Walk:
    """T frames of one camera on a closed path; after the last frame comes the first again.

    Attributes:
        images: `(T, H, W, 3)` uint8 RGB.
        depth_m: `(T, H, W)` float32 z-depth at pixel centres, metres.
        camera_to_world: `(T, 4, 4)` float64, OpenCV camera axes; the world is z-up, metres (REP 103).
        intrinsics: `(3, 3)` float64, pixel edges at integers.
        room: the scene, for `room.surface_distance(points)`.
        seed: what the pictures on walls and furniture were drawn from.
    """

    images: np.ndarray
    depth_m: np.ndarray
    camera_to_world: np.ndarray
    intrinsics: np.ndarray
    room: Scene
    seed: int

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[1], self.images.shape[2]

    def render_depth(self, frame: int, intrinsics: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """`(H, W)` float32 true z-depth in metres of another image of `size` taken where `frame` was taken."""
        return render_depth(self.room, Camera(intrinsics, self.camera_to_world[frame]), size)


def room_walk(
    frames: int = 60,
    size: tuple[int, int] = (480, 640),
    *,
    intrinsics: np.ndarray | None = None,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Walk:
    """Once around the room. The same parameters give the same bytes.

    Args:
        frames: T, evenly spread over the closed path of about 10 m and one full turn.
        size: height and width in pixels.
        intrinsics: `(3, 3)`, pixel edges at integers; by default 70 degrees over the longer side, centred.
        seed: of the pictures; the geometry is always the same.
        cache_dir: by default `$XDG_CACHE_HOME/da3_ros` or `~/.cache/da3_ros`.

    Raises:
        InputError: a number out of range.
    """
    _check_whole("frames", frames, 1, 100_000)
    _check_whole("height", size[0], _SMALLEST_SIDE, _LARGEST_SIDE)
    _check_whole("width", size[1], _SMALLEST_SIDE, _LARGEST_SIDE)
    _check_whole("seed", seed, 0, 2**32 - 1)
    gigabytes = frames * size[0] * size[1] * _BYTES_PER_PIXEL / 1e9
    if gigabytes > _LARGEST_GIGABYTES:
        raise InputError(
            f"a walk of {frames} frames of {size[1]} x {size[0]} takes {gigabytes:.0f} GB; up to "
            f"{_LARGEST_GIGABYTES} are allowed, so take fewer or smaller frames"
        )
    pinhole = _default_intrinsics(size) if intrinsics is None else check_intrinsics([intrinsics], 1)[0]

    path = orbit(frames)
    file = _cache_file(Path(cache_dir) if cache_dir else user_cache(), frames, size, pinhole, seed)
    rendered = _load(file, (frames, *size))
    if rendered is None:
        rendered = _render(path, pinhole, size, seed)
        _store(file, *rendered)
    return Walk(*rendered, camera_to_world=path, intrinsics=pinhole, room=furnished_room(), seed=seed)


def _check_whole(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{name} of the walk is {value!r}; give a whole number from {low} to {high}")


def _default_intrinsics(size: tuple[int, int]) -> np.ndarray:
    height, width = size
    focal = max(size) / 2 / np.tan(np.deg2rad(FIELD_OF_VIEW_DEG / 2))
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def _render(
    path: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    log.info("rendering %d frames of %d x %d, once", len(path), size[1], size[0])
    lit = LitScene.prepare(furnished_room(), seed)
    images, depth_m = np.empty((len(path), *size, 3), np.uint8), np.empty((len(path), *size), np.float32)
    for frame, camera_to_world in enumerate(path):
        images[frame], depth_m[frame] = lit.render(Camera(intrinsics, camera_to_world), size)
    return images, depth_m


def _cache_file(folder: Path, frames: int, size: tuple[int, int], intrinsics: np.ndarray, seed: int) -> Path:
    """The name tells the parameters and the code that rendered, so a change of either renders anew."""
    digest = hashlib.sha256(json.dumps([frames, *size, intrinsics.tolist(), seed]).encode())
    for module in _GENERATOR:
        digest.update((Path(__file__).parent / f"{module}.py").read_bytes())
    return folder / f"room_walk_{frames}x{size[0]}x{size[1]}_{digest.hexdigest()[:16]}.npz"


def _load(file: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(file, allow_pickle=False) as stored:
            images, depth_m = stored["images"], stored["depth_m"]
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged archives make their readers raise almost anything
        log.warning("the cached walk %s is damaged (%s); rendering it again", file, error)
        return None
    intact = images.shape == (*shape, 3) and depth_m.shape == shape
    return (images, depth_m) if intact else None


def _store(file: Path, images: np.ndarray, depth_m: np.ndarray) -> None:
    """A cache that cannot be written costs time, no more."""
    try:
        with staged_file(file) as staging:
            np.savez(staging, images=images, depth_m=depth_m)
    except OSError as error:
        log.warning("the walk cannot be cached in %s (%s); it will be rendered again next time", file.parent, error)
