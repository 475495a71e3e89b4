# SPDX-License-Identifier: Apache-2.0
"""`gs_video`: a camera path through the Gaussians, colours and depth, `gs_video/0000_extend.mp4`."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from da3_core.errors import InputError
from da3_core.export.gaussians import world_from_network
from da3_core.export.points import has_depth
from da3_core.export.video import Quality, write_video
from da3_core.geometry.cameras import check_extrinsics, check_intrinsics, invert_rigid, to_homogeneous
from da3_core.geometry.trajectories import Mode, Trajectory, make_trajectory
from da3_core.options import option
from da3_core.prediction import Prediction
from da3_core.render import Rendering, has_fast_rasterizer, render
from da3_core.visualise import spectral

log = logging.getLogger(__name__)

_FPS = 24
_GAP = 8  # white pixels between colours and depth
_DEPTH_SAMPLES = 8  # frames that set the range of depth colours
_DEPTH_QUANTILES = (0.01, 0.99)


@dataclass(frozen=True)
class Options:
    extrinsics: Any = option(
        None, "(M, 4, 4) or (M, 3, 4) world-to-camera, in the world of the prediction, in place of its cameras."
    )
    intrinsics: Any = option(
        None, "(M, 3, 3) or one (3, 3) for all, in pixels of the video.", unset="the predicted ones"
    )
    out_image_hw: Any = option(None, "Height and width of the video.", unset="those of the processed images")
    trj_mode: Mode | None = option(
        None, "The path, see geometry.trajectories.", unset="extend, or original when extrinsics are given"
    )
    vis_depth: Literal["hcat", "vcat"] | None = option(
        "hcat", "Depth beside (hcat) or below (vcat) the colours, or not at all."
    )
    color_mode: Literal["RGB+ED", "RGB+D"] = option(
        "RGB+ED", "RGB+ED shows the mean depth of what is seen, RGB+D lets it fade where little is seen."
    )
    chunk_size: int = option(4, "Frames rendered at once.", low=1)
    video_quality: Quality = option("high", "Of the compression.")
    output_name: str | None = option(None, "Name of the file without its ending.")
    enable_tqdm: bool = option(True, "Show progress in a terminal.")

    def __post_init__(self) -> None:
        """Refuses cameras, sizes and names that cannot be used."""
        extrinsics, intrinsics = self.given_extrinsics(), self.given_intrinsics()
        size, name = self.out_image_hw, self.output_name
        if extrinsics is not None and intrinsics is not None:
            _one_per_camera(intrinsics, len(extrinsics))
        if size is not None and not (
            isinstance(size, Sequence | np.ndarray) and len(size) == 2 and all(_is_side(side) for side in size)
        ):
            raise InputError(f"the size of a gs_video is {size!r}: give height and width, at least 2 pixels each")
        if name is not None and (not name or Path(name).name != name or name.startswith(".")):
            raise InputError(f"the name of a gs_video is {name!r}: give a plain file name without a folder or ending")

    def given_extrinsics(self) -> np.ndarray | None:
        """`(M, 4, 4)` float64."""
        if self.extrinsics is None:
            return None
        cameras = _without_batch_axis(self.extrinsics)
        return check_extrinsics(cameras, len(cameras)).astype(np.float64)

    def given_intrinsics(self) -> np.ndarray | None:
        """`(M, 3, 3)` or `(1, 3, 3)` float64."""
        if self.intrinsics is None:
            return None
        matrices = _without_batch_axis(self.intrinsics)
        return check_intrinsics(matrices, len(matrices))

    @property
    def mode(self) -> Mode:
        return self.trj_mode or ("extend" if self.extrinsics is None else "original")


def _without_batch_axis(matrices: Any) -> np.ndarray:
    """A tensor or array `(M, R, C)`, also of one matrix, or of `(1, M, R, C)`."""
    array = np.asarray(matrices.detach().cpu() if hasattr(matrices, "detach") else matrices)
    if array.ndim == 4 and len(array) == 1:
        return np.asarray(array[0])
    return array[None] if array.ndim == 2 else array


def _one_per_camera(intrinsics: np.ndarray, cameras: int) -> np.ndarray:
    if len(intrinsics) not in (1, cameras):
        raise InputError(
            f"gs_video got {len(intrinsics)} intrinsics for {cameras} cameras: give one for each, or one for all"
        )
    return np.broadcast_to(intrinsics, (cameras, 3, 3))


def _is_side(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 2


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    gaussians = prediction.gaussians
    assert gaussians is not None
    height, width = map(int, options.out_image_hw or prediction.depth.shape[1:])
    path = _path(prediction, height, width, options)
    if not has_fast_rasterizer(gaussians):
        log.warning(
            "rendering %d frames of %d x %d pixels without gsplat on CUDA takes a while", len(path), width, height
        )

    def renderings(frames: Trajectory) -> Iterator[Rendering]:
        cameras = invert_rigid(frames.camera_to_world)
        return render(gaussians, cameras, frames.intrinsics, (height, width), views_at_once=options.chunk_size)

    near, far = 0.0, 0.0
    if options.vis_depth is not None:
        few = np.unique(np.linspace(0, len(path) - 1, _DEPTH_SAMPLES).astype(int))
        near, far = _depth_range(_depth(rendering, options) for rendering in renderings(path[few]))
    name = options.output_name or f"0000_{options.mode}"
    frames = (
        _frame(rendering, options, near, far) for rendering in _with_progress(renderings(path), len(path), options)
    )
    write_video(folder / f"gs_video/{name}.mp4", frames, _FPS, options.video_quality)


def _path(prediction: Prediction, height: int, width: int, options: Options) -> Trajectory:
    """The cameras of the frames, in the frame and the unit of the Gaussians."""
    assert prediction.extrinsics is not None
    assert prediction.usable_intrinsics is not None
    video_from_processed = _enlargement(prediction, height, width)
    given_extrinsics, given_intrinsics = options.given_extrinsics(), options.given_intrinsics()
    intrinsics = prediction.usable_intrinsics.astype(np.float64)
    if given_extrinsics is None:
        extrinsics = to_homogeneous(prediction.extrinsics.astype(np.float64))
    else:
        extrinsics = given_extrinsics
        intrinsics = intrinsics if len(intrinsics) == len(extrinsics) else intrinsics[:1]
    if given_intrinsics is not None:
        # Movements are measured in pixels of the processed image, so that they look alike at any size.
        intrinsics = np.linalg.inv(video_from_processed) @ given_intrinsics
    intrinsics = _one_per_camera(intrinsics, len(extrinsics))

    network_from_world = world_from_network(prediction).inverse()
    cameras = network_from_world.transform_camera(invert_rigid(extrinsics))
    depth = prediction.depth[has_depth(prediction.depth)]
    scene_depth = float(np.median(depth)) * network_from_world.scale if depth.size else 1.0
    path = make_trajectory(options.mode, Trajectory(cameras, intrinsics), scene_depth)
    return Trajectory(path.camera_to_world, video_from_processed @ path.intrinsics)


def _enlargement(prediction: Prediction, height: int, width: int) -> np.ndarray:
    """`(3, 3)` from pixels of the processed image to those of the video, which it fills without being stretched."""
    old_height, old_width = prediction.depth.shape[1:]
    scale = max(height / old_height, width / old_width)
    shift = (np.array([width, height]) - scale * np.array([old_width, old_height])) / 2
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]])


def _depth(rendering: Rendering, options: Options) -> np.ndarray:
    return rendering.expected_depth() if options.color_mode == "RGB+ED" else rendering.accumulated_depth


def _depth_range(depths: Iterable[np.ndarray]) -> tuple[float, float]:
    """Logarithms of the depths that get the first and the last colour, the same for all frames."""
    positive = np.concatenate([depth[depth > 0] for depth in depths])
    if not positive.size:
        return 0.0, 1.0
    near, far = np.log(np.quantile(positive, _DEPTH_QUANTILES))
    return float(near), max(float(far), float(near) + 1e-6)


def _frame(rendering: Rendering, options: Options, near: float, far: float) -> np.ndarray:
    """`(H, W, 3)` uint8: colours and, where wanted, depth, linear in its logarithm."""
    color = (np.clip(rendering.color, 0, 1) * 255).astype(np.uint8)
    if options.vis_depth is None:
        return np.asarray(color)
    depth = _depth(rendering, options)
    shade = np.log(depth, out=np.full_like(depth, far), where=depth > 0)
    painted = spectral((shade - near) / (far - near))
    axis = 1 if options.vis_depth == "hcat" else 0
    gap: np.ndarray = np.full((_GAP, color.shape[1], 3) if axis == 0 else (color.shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([color, gap, painted], axis=axis)


def _with_progress(renderings: Iterator[Rendering], frames: int, options: Options) -> Iterator[Rendering]:
    from tqdm import tqdm

    # None asks tqdm to be silent where nobody watches.
    yield from tqdm(renderings, desc="gs_video", total=frames, disable=None if options.enable_tqdm else True)
