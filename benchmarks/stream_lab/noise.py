# SPDX-License-Identifier: Apache-2.0
"""A model that knows the truth and answers with disturbances: what an any-view network does, as far as one can guess.

The levels are guesses; "soft" imitates the small embedded model, "real" a good large one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from stream_lab.worlds import INTRINSICS, Walk

CELLS = (3, 4)  # of smooth errors over the image
OUTLIER_CELLS = (12, 16)
TOKEN_NOISE = 0.35  # of a token's length


@dataclass(frozen=True)
class Noise:
    """Standard deviations, relative unless they say otherwise. New with every call, where they do not say otherwise.

    Attributes:
        pixel: of depth, white.
        view_scale: a factor of the depth of each view.
        smooth: a smooth error over the image, for each view.
        window_smooth: one for all views of a call.
        lasting_smooth: one for the whole stream.
        compression: depth to the power of 1 + this about its median, for all views of a call.
        outliers: share of blobs whose depth is wrong by a factor of 0.3 to 3.
        rotation_deg, centre: of the cameras, degrees, and of the median depth.
        baseline: a factor of all baselines of a call: cameras and depth disagree about the unit.
        focal: a factor of the focal length of a call.
        confidence: `flat`; `good`, low where wrong; `misleading`, high where wrong.
    """

    pixel: float = 0.0
    view_scale: float = 0.0
    smooth: float = 0.0
    window_smooth: float = 0.0
    lasting_smooth: float = 0.0
    compression: float = 0.0
    outliers: float = 0.0
    rotation_deg: float = 0.0
    centre: float = 0.0
    baseline: float = 0.0
    focal: float = 0.0
    confidence: Literal["flat", "good", "misleading"] = "flat"


_REAL = {"pixel": 0.01, "view_scale": 0.01, "smooth": 0.03, "rotation_deg": 0.2, "centre": 0.005, "baseline": 0.01}

CASES: dict[str, Noise] = {
    "exact": Noise(),
    "white 2 %": Noise(pixel=0.02),
    "white 5 %": Noise(pixel=0.05),
    "real": Noise(**_REAL, outliers=0.05),
    "real, misleading confidence": Noise(**_REAL, outliers=0.1, confidence="misleading"),
    "real, good confidence": Noise(**_REAL, outliers=0.1, confidence="good"),
    "smooth 5 % by view": Noise(smooth=0.05),
    "smooth 5 % by window": Noise(window_smooth=0.05),
    "smooth 5 %, lasting": Noise(lasting_smooth=0.05),
    "outliers 20 %": Noise(pixel=0.01, outliers=0.2),
    "cameras": Noise(rotation_deg=0.5, centre=0.01),
    "baselines 3 %": Noise(baseline=0.03, pixel=0.01),
    "focal length 3 %": Noise(focal=0.03, pixel=0.01),
    "soft": Noise(
        pixel=0.02, view_scale=0.05, smooth=0.12, compression=0.05, outliers=0.05,
        rotation_deg=0.8, centre=0.02, baseline=0.08,
    ),
}  # fmt: skip


class DisturbedModel:
    """Answers every window of a walk in a world and a unit of its own. Frames are known by their stamps."""

    def __init__(self, walk: Walk, noise: Noise, seed: int, *, is_metric: bool = False) -> None:
        self._walk, self._noise, self._is_metric = walk, noise, is_metric
        self._rng = np.random.default_rng(seed)
        self._lasting = _smooth(np.random.default_rng(seed + 99), 1, walk.depth_m.shape[1:])
        self.windows: list[tuple[list[int], Prediction]] = []

    def __call__(self, frames: Sequence[Frame]) -> Prediction:
        """The answer, which is also kept in `windows` for other recipes."""
        chosen = [frame.stamp_ns for frame in frames]
        rng = self._rng
        true_m = self._walk.depth_m[chosen].astype(np.float64)  # (N, H, W)
        error, wrong = self._depth_error(true_m)
        cameras = self._cameras(chosen, float(np.median(true_m)))
        scale = 1.0 if self._is_metric else float(np.exp(rng.uniform(np.log(0.3), np.log(3))))
        turn, offset = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix(), rng.uniform(-5, 5, 3)
        moved = np.tile(np.eye(4), (len(chosen), 1, 1))
        moved[:, :3, :3] = turn @ cameras[:, :3, :3]
        moved[:, :3, 3] = scale * cameras[:, :3, 3] @ turn.T + offset
        intrinsics = np.tile(INTRINSICS, (len(chosen), 1, 1))
        intrinsics[:, [0, 1], [0, 1]] *= np.exp(self._noise.focal * rng.normal())
        looks = self._walk.looks[chosen]
        tokens = looks + TOKEN_NOISE / np.sqrt(looks.shape[1]) * rng.normal(size=looks.shape)
        prediction = Prediction(
            depth=(scale * true_m * np.exp(error)).astype(np.float32),
            is_metric=int(self._is_metric),
            conf=self._confidence(error, wrong).astype(np.float32),
            extrinsics=invert_rigid(moved).astype(np.float32),
            intrinsics=intrinsics.astype(np.float32),
            processed_images=np.stack([frame.image for frame in frames]),
            processed_from_original=np.tile(np.eye(3), (len(chosen), 1, 1)),
            class_tokens=tokens.astype(np.float32),
        )
        self.windows.append((chosen, prediction))
        return prediction

    def _depth_error(self, true_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the logarithm, `(N, H, W)`, and which pixels are outliers."""
        import cv2

        rng, noise, views, size = self._rng, self._noise, len(true_m), true_m.shape[1:]
        error = noise.lasting_smooth * np.repeat(self._lasting, views, 0)
        error += noise.window_smooth * _smooth(rng, 1, size) + noise.smooth * _smooth(rng, views, size)
        error += noise.view_scale * rng.normal(size=(views, 1, 1)) + noise.pixel * rng.normal(size=true_m.shape)
        error += noise.compression * rng.normal() * np.log(true_m / np.median(true_m))
        coarse = (rng.random((views, *OUTLIER_CELLS)) < noise.outliers).astype(np.uint8)
        wrong = np.stack([cv2.resize(c, size[::-1], interpolation=cv2.INTER_NEAREST) for c in coarse]) > 0
        error[wrong] += np.log(rng.choice([0.3, 0.5, 2, 3], int(wrong.sum())))
        return error, wrong

    def _cameras(self, chosen: Sequence[int], median_m: float) -> np.ndarray:
        rng, noise = self._rng, self._noise
        cameras = self._walk.camera_to_world[chosen]
        cameras[:, :3, 3] += noise.centre * median_m * rng.normal(size=(len(cameras), 3))
        turns = np.deg2rad(noise.rotation_deg) * rng.normal(size=(len(cameras), 3))
        cameras[:, :3, :3] = cameras[:, :3, :3] @ Rotation.from_rotvec(turns).as_matrix()
        middle = cameras[:, :3, 3].mean(0)
        cameras[:, :3, 3] = middle + np.exp(noise.baseline * rng.normal()) * (cameras[:, :3, 3] - middle)
        return cameras

    def _confidence(self, error: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        rng = self._rng
        if self._noise.confidence == "flat":
            return np.asarray(1 + 4 * np.exp(0.3 * rng.normal(size=error.shape)))
        if self._noise.confidence == "good":
            return np.asarray(1 + 4 * np.exp(-np.abs(error) / 0.03) + 0.2 * rng.random(error.shape))
        return np.asarray(1 + np.minimum(20, 1 + 40 * np.abs(error)) + 0.2 * rng.random(error.shape))


def _smooth(rng: np.random.Generator, count: int, size: tuple[int, ...]) -> np.ndarray:
    """`(count, H, W)` fields of standard deviation about 1."""
    import cv2

    coarse = rng.normal(size=(count, *CELLS)).astype(np.float32)
    return np.stack([cv2.resize(field, size[::-1], interpolation=cv2.INTER_CUBIC) for field in coarse]).astype(float)
