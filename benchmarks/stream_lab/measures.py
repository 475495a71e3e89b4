# SPDX-License-Identifier: Apache-2.0
"""How straight a joined stream came out, after one similarity has laid it over the truth."""

from dataclasses import dataclass

import numpy as np

from da3_core.geometry.similarity import fit_similarity


@dataclass(frozen=True)
class Measures:
    """Attributes:
    ate_m: root mean square distance of the camera centres.
    end_gap_m: error of the way from the first camera to the last.
    scale_spread: range of the scale of depth, smoothed over 9 frames, along the stream, relative.
    flicker: median change of the scale of depth from a frame to the next, relative.
    rotation_deg: root mean square error of the orientations.
    """

    ate_m: float
    end_gap_m: float
    scale_spread: float
    flicker: float
    rotation_deg: float


def measure(cameras: np.ndarray, depth: np.ndarray, true_cameras: np.ndarray, true_depth_m: np.ndarray) -> Measures:
    """Of `(N, 4, 4)` camera-to-map and `(N, H, W)` depth in one unit."""
    laid = fit_similarity(cameras[:, :3, 3], true_cameras[:, :3, 3])
    moved = laid.transform_camera(cameras)
    error_m = np.linalg.norm(moved[:, :3, 3] - true_cameras[:, :3, 3], axis=1)
    way, true_way = moved[-1, :3, 3] - moved[0, :3, 3], true_cameras[-1, :3, 3] - true_cameras[0, :3, 3]
    log_scale = np.log(np.median((true_depth_m / depth).reshape(len(depth), -1), axis=1))
    smoothed = np.convolve(log_scale, np.ones(9) / 9, "valid") if len(log_scale) > 9 else log_scale
    turned = np.linalg.norm(moved[:, :3, :3] - true_cameras[:, :3, :3], axis=(1, 2)) / np.sqrt(2)
    return Measures(
        ate_m=float(np.sqrt((error_m**2).mean())),
        end_gap_m=float(np.linalg.norm(way - true_way)),
        scale_spread=float(np.expm1(np.ptp(smoothed))),
        flicker=float(np.median(np.abs(np.diff(log_scale)))),
        rotation_deg=float(np.rad2deg(np.sqrt((turned**2).mean()))),
    )
