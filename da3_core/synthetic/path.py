# SPDX-License-Identifier: Apache-2.0
"""Smooth camera paths: camera-to-world matrices, OpenCV camera axes, z-up world, metres."""

from __future__ import annotations

import numpy as np


def look_at(position: np.ndarray, target: np.ndarray, roll_rad: float = 0.0) -> np.ndarray:
    """`(4, 4)` camera-to-world of a camera at `position` that sees `target` in its middle, upright but for the roll."""
    forward = np.asarray(target, np.float64) - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll_rad), np.sin(roll_rad)
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = np.stack([c * right + s * down, c * down - s * right, forward], axis=1)
    camera_to_world[:3, 3] = position
    return camera_to_world


def orbit(frames: int, radii_m: tuple[float, float] = (1.15, 1.95), height_m: float = 1.35) -> np.ndarray:
    """`(frames, 4, 4)` camera-to-world: once around an ellipse about the origin, looking across it.

    The path is closed: one more step after the last leads to the first. The camera rises and sinks twice,
    rolls a little and lets its aim wander, so that no motion is a pure one.
    """
    poses = []
    for phase in 2 * np.pi * np.arange(frames) / frames:
        position = [radii_m[0] * np.sin(phase), -radii_m[1] * np.cos(phase), height_m + 0.12 * np.sin(2 * phase)]
        ahead = phase + 0.5 + 0.15 * np.sin(3 * phase)
        target = [-0.8 * radii_m[0] * np.sin(ahead), 0.8 * radii_m[1] * np.cos(ahead), 0.75 + 0.1 * np.cos(2 * phase)]
        poses.append(look_at(np.array(position), np.array(target), roll_rad=0.03 * np.sin(phase)))
    return np.stack(poses)
