# SPDX-License-Identifier: Apache-2.0
"""Cameras in a scene, and what a camera makes of it: exposure, white balance, blur, noise, compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.raycast import Solids, first_hits, shade
from training.scenes import Stage, make_stage
from training.textures import Bank

_FAR_M = 150.0  # beyond, nothing counts as measured
_TOO_FAR = -1.0  # in place of the depth of such things; 0 stands for the sky
_DISTORTED = 0.15  # share of the scenes whose lens was rectified badly
_SUPERSAMPLING = 2


@dataclass(frozen=True, eq=False)
class Sample:
    """A few views of one scene.

    Attributes:
        images: (N, H, W, 3) uint8 RGB.
        depth: (N, H, W) float32 z-depth in metres at pixel centres, 0 in the sky, negative beyond 150 m.
        intrinsics: (3, 3) pixel edges at integers.
        camera_to_world: (N, 4, 4) float64, OpenCV axes.
        style: kind of scene.
    """

    images: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    camera_to_world: np.ndarray
    style: str


def make_sample(seed: int, bank: Bank, views: int, size: tuple[int, int]) -> Sample:
    """The sample of that number: always the same for a bank, a number of views and a size."""
    attempt = 0
    while True:
        rng = np.random.default_rng([seed, attempt])
        stage = make_stage(rng, bank)
        camera = _Camera.draw(rng, stage, size)
        poses = camera.path(rng, stage, views)
        if len(poses) == views:
            break
        attempt += 1
    pairs = [camera.photograph(pose, int(rng.integers(2**31))) for pose in poses]
    if rng.random() < _DISTORTED:
        places = _residual_distortion(rng.uniform(-0.08, 0.08), size)
        pairs = [
            (
                cv2.remap(colour.astype(np.float32), *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
                cv2.remap(depth, *places, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE),
            )
            for colour, depth in pairs
        ]
    images = develop(rng, np.stack([colour for colour, _ in pairs]))
    intrinsics = np.array([[camera.focal, 0, size[1] / 2], [0, camera.focal, size[0] / 2], [0, 0, 1]])
    return Sample(images, np.stack([depth for _, depth in pairs]), intrinsics, np.stack(poses), stage.style)


@dataclass(frozen=True, eq=False)
class _Camera:
    """A pinhole in a stage, its principal point in the middle of the image."""

    stage: Stage
    solids: Solids
    focal: float
    size: tuple[int, int]

    @classmethod
    def draw(cls, rng: np.random.Generator, stage: Stage, size: tuple[int, int]) -> _Camera:
        """Of square pixels; the field of view is that of the longer side."""
        field_of_view = np.deg2rad(rng.uniform(35, 100))
        return cls(stage, stage.scene.solids(), max(size) / 2 / np.tan(field_of_view / 2), size)

    def depth(self, pose: np.ndarray, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        height, width = round(self.size[0] * factor), round(self.size[1] * factor)
        eye, turn = pose[:3, 3].astype(np.float32), np.ascontiguousarray(pose[:3, :3], np.float32)
        tiles = self.stage.scene.bank.tiles
        return first_hits(self.solids, tiles, eye, turn, self.focal * factor, height, width)

    def photograph(self, pose: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Linear colour (H, W, 3) and depth (H, W), 0 for none."""
        depth, index_at = self.depth(pose)
        fine, index = self.depth(pose, _SUPERSAMPLING)
        eye, turn = pose[:3, 3].astype(np.float32), np.ascontiguousarray(pose[:3, :3], np.float32)
        colour = shade(
            self.solids, self.stage.scene.bank.tiles, self.stage.light, fine, index, eye, turn,
            self.focal * _SUPERSAMPLING, seed,
        )  # fmt: skip
        colour = np.minimum(colour, 4.0).reshape(self.size[0], _SUPERSAMPLING, self.size[1], _SUPERSAMPLING, 3)
        return colour.mean((1, 3)), np.where(depth < _FAR_M, depth, np.where(index_at < 0, 0, _TOO_FAR)).astype(
            np.float32
        )

    def path(self, rng: np.random.Generator, stage: Stage, views: int) -> list[np.ndarray]:
        """Poses along a short random walk that look about the same way and see something; none if there is no room."""
        for _ in range(8):
            eye, aim = stage.look(rng)
            roll = rng.normal() * rng.choice([0.02, 0.1, 0.3], p=[0.7, 0.2, 0.1])
            if self._sees(look_at(eye, aim, roll)):
                break
        else:
            return []
        poses, drift, gaze = [], rng.normal(size=3), np.zeros(3)
        step, last = stage.step_m * rng.uniform(0.1, 1.2), eye
        for _ in range(6 * views):
            pose = look_at(eye, aim + gaze, roll + rng.normal() * 0.02)
            if self._sees(pose):
                poses.append(pose)
                if len(poses) == views:
                    break
                last = eye
            drift = 0.6 * drift + rng.normal(size=3)
            eye = last + step * rng.uniform(0.4, 1.2) * drift / np.linalg.norm(drift) * np.array([1, 1, 0.4])
            gaze = gaze * 0.8 + rng.normal(size=3) * 0.08 * np.linalg.norm(aim - eye)
        return poses

    def _sees(self, pose: np.ndarray) -> bool:
        depth, _ = self.depth(pose, 1 / 8)
        there = depth < _FAR_M
        if there.mean() < 0.3:
            return False
        near, middle = np.quantile(depth[there], (0.02, 0.5))
        return bool(
            near > 0.25 * min(self.stage.step_m, 0.4)
            and middle > 0.8 * self.stage.step_m
            and np.ptp(depth[there]) > self.stage.least_relief * middle
        )


def look_at(eye: np.ndarray, aim: np.ndarray, roll: float) -> np.ndarray:
    """Camera-to-world pose (4, 4) with OpenCV axes that looks from `eye` to `aim`, z of the world up."""
    forward = (aim - eye) / np.linalg.norm(aim - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right) + 1e-9
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([c * right + s * down, c * down - s * right, forward], axis=1)
    pose[:3, 3] = eye
    return pose


def develop(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Linear colour (N, H, W, 3) to images uint8 as cameras give them: one look for all views, small differences."""
    middle = np.median(colour.mean(-1))
    exposure = rng.uniform(0.1, 0.4) / (middle + 0.02)
    balance = rng.uniform(0.88, 1.14, 3)
    gamma, contrast = rng.uniform(1.7, 2.6), rng.uniform(0, 0.5)
    saturation = 0.0 if rng.random() < 0.18 else rng.uniform(0.5, 1.25)
    height, width = colour.shape[1:3]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = 1 - rng.choice([0, rng.uniform(0, 0.4)]) * (x**2 + y**2)[..., None] / 2
    blur, kernel = rng.random(), _blur_kernel(rng)
    noise, quality = rng.choice([0, rng.uniform(0, 0.04)]), int(rng.integers(30, 96))
    compressed = rng.random() < 0.6
    images = []
    for view in colour:
        picture = np.clip(view * vignette * balance * exposure * rng.uniform(0.9, 1.1), 0, None)
        picture = np.clip(picture, 0, 1.5) if contrast < 0.1 else picture / (1 + contrast * picture)
        picture = np.clip(picture, 0, 1) ** (1 / gamma)
        grey = picture.mean(-1, keepdims=True)
        picture = grey + saturation * (picture - grey)
        if blur < 0.3:
            picture = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        picture = picture + noise * rng.normal(size=picture.shape) * (0.5 + grey)
        image = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        if compressed:
            image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        images.append(image)
    return np.stack(images)


def _residual_distortion(strength: float, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels of a badly rectified image come from, columns and rows (H, W): radial, corners stay corners."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    square = 4 * (x * x + y * y) / (height**2 + width**2)
    factor = ((1 + strength * square) / (1 + max(strength, 0))).astype(np.float32)
    return x * factor + np.float32((width - 1) / 2), y * factor + np.float32((height - 1) / 2)


def _blur_kernel(rng: np.random.Generator) -> np.ndarray:
    """Out of focus or moved."""
    kernel = np.zeros((9, 9), np.float32)
    if rng.random() < 0.5:
        kernel[4, 4] = 1
        kernel = cv2.GaussianBlur(kernel, (0, 0), rng.uniform(0.4, 1.2))
    else:
        angle, length = rng.uniform(0, np.pi), rng.uniform(0.5, 4)
        for along in np.linspace(-length, length, 15):
            kernel[round(4 + along * np.sin(angle)), round(4 + along * np.cos(angle))] += 1
    return kernel / kernel.sum()
