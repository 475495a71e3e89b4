# SPDX-License-Identifier: Apache-2.0
"""Worlds of boxes with exact depth, and walks through them. Quick at 48 x 64 pixels, exact at any size.

Axes of a world: x along, y across, z up, metres.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

WorldName = Literal["hall", "street", "corridors"]

SIZE = (48, 64)
INTRINSICS = np.array([[46.0, 0, 32], [0, 46.0, 24], [0, 0, 1]])
TOKEN_CHANNELS = 64
PATCH_M = 2.0  # surfaces change their looks so often
FAR_M = 60.0
CORRIDOR_M = (24.0, 3.0, 2.6)
CORRIDOR_APART_M = 12.0


@dataclass(frozen=True, eq=False)
class World:
    """A shell seen from inside, `(2, 3)`, and `B` boxes seen from outside, `(B, 3)` corners; `looks` `(B,)` numbers
    what they look like: the same number, the same looks. Those of the shell repeat every `repeats_m` across."""

    shell: np.ndarray
    low: np.ndarray
    high: np.ndarray
    looks: np.ndarray
    repeats_m: float = np.inf

    def render(self, camera_to_world: np.ndarray, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
        """`(H, W)` z-depth, and `(C,)` what the view looks like as a whole: the mean over pixels of vectors that
        belong to the visible patches of surfaces."""
        v, u = np.mgrid[: size[0], : size[1]] + 0.5
        k = INTRINSICS
        rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], -1).reshape(-1, 3)
        rays = rays @ camera_to_world[:3, :3].T
        origin = camera_to_world[:3, 3]
        inverse = 1 / np.where(np.abs(rays) < 1e-9, 1e-9, rays)
        depth = np.maximum((self.shell[0] - origin) * inverse, (self.shell[1] - origin) * inverse).min(1)
        seen = np.full(len(depth), -1)
        away = np.linalg.norm(np.maximum(np.maximum(self.low - origin, origin - self.high), 0), axis=1)
        for box in np.flatnonzero(away < FAR_M):
            one, other = (self.low[box] - origin) * inverse, (self.high[box] - origin) * inverse
            enters, leaves = np.minimum(one, other).max(1), np.maximum(one, other).min(1)
            hit = (enters < leaves) & (enters > 1e-3) & (enters < depth)
            depth, seen = np.where(hit, enters, depth), np.where(hit, box, seen)
        return depth.reshape(size), self._looks(origin + rays * depth[:, None], seen)

    def _looks(self, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
        corner = np.where(seen[:, None] < 0, self.shell[0], self.low[seen])
        offset = points - corner
        if np.isfinite(self.repeats_m):
            offset[:, 1] %= self.repeats_m
        cells = np.floor(offset / PATCH_M + 1e-6).astype(np.int64)
        looks = np.where(seen < 0, 0, self.looks[seen] + 1)
        key = looks * 1_000_003 + cells @ np.array([73_856_093, 19_349_663, 83_492_791])
        patches, pixels = np.unique(key, return_counts=True)
        vectors = np.stack([np.random.default_rng(abs(int(p))).normal(size=TOKEN_CHANNELS) for p in patches])
        token = (np.sqrt(pixels)[:, None] * vectors).sum(0)
        return np.asarray(token / np.linalg.norm(token))


@dataclass(frozen=True, eq=False)
class Walk:
    """`N` true cameras `(N, 4, 4)` to world, depths `(N, H, W)` in metres, and looks `(N, C)`."""

    camera_to_world: np.ndarray
    depth_m: np.ndarray
    looks: np.ndarray


def walk(world: WorldName, frames: int, step_m: float, seed: int = 0) -> Walk:
    """A walk of `frames` steps of `step_m`; kept in the folder of temporary files for the next time."""
    source = Path(__file__).read_bytes()
    key = hashlib.sha256(source + f"{world} {frames} {step_m} {seed}".encode()).hexdigest()[:16]
    kept = Path(tempfile.gettempdir(), f"da3_stream_world_{key}.npz")
    if not kept.exists():
        made, cameras = WORLDS[world](seed), PATHS[world](frames, step_m)
        views = [made.render(camera) for camera in cameras]
        partial = kept.with_suffix(".part.npz")
        depth = np.stack([d for d, _ in views]).astype(np.float32)
        np.savez(partial, cameras=cameras, depth=depth, looks=np.stack([looks for _, looks in views]))
        partial.rename(kept)
    with np.load(kept) as stored:
        return Walk(stored["cameras"], stored["depth"], stored["looks"])


def hall(seed: int) -> World:
    """30 x 20 x 3.5 m with pillars and furniture beside an elliptic way of 51 m."""
    rng = np.random.default_rng(seed)
    low, high = [], []
    while len(low) < 60:
        centre, half = rng.uniform([-14, -9], [14, 9]), rng.uniform(0.2, 1.0, 2)
        height = rng.choice([0.8, 1.1, 1.9, 3.5])
        if abs(np.hypot(centre[0] / 10, centre[1] / 6) - 1) >= 0.22:
            low.append([*(centre - half), 0])
            high.append([*(centre + half), height])
    return World(np.array([[-15.0, -10, 0], [15, 10, 3.5]]), np.array(low), np.array(high), np.arange(60))


def street(seed: int) -> World:
    """2 km between houses, with parked cars."""
    rng = np.random.default_rng(seed)
    low, high, x = [], [], -25.0
    while x < 2020:
        length = rng.uniform(5, 14)
        for side in (-1, 1):
            front, height = side * rng.uniform(6, 9), rng.uniform(4, 14)
            low.append([x, min(front, side * 12), 0])
            high.append([x + length * rng.uniform(0.6, 1), max(front, side * 12), height])
            if rng.random() < 0.6:
                near = side * rng.uniform(3, 4.5)
                far = near + side * 1.7
                low.append([x + 1, min(near, far), 0])
                high.append([x + 5, max(near, far), 1.5])
        x += length
    return World(np.array([[-30.0, -12, 0], [2030, 12, 40]]), np.array(low), np.array(high), np.arange(len(low)))


def corridors(seed: int) -> World:
    """Two corridors that nobody can tell apart by looking, side by side, joined by a cross way at their far ends."""
    rng = np.random.default_rng(seed)
    length, width, height = CORRIDOR_M
    apart = CORRIDOR_APART_M
    low, high, looks = [], [], []

    def box(corner: list[float], other: list[float], look: int) -> None:
        low.append(corner)
        high.append(other)
        looks.append(look)

    for x in np.arange(1.5, length - 1, 2.2):
        depth, tall = rng.uniform(0.2, 0.7), rng.uniform(0.6, 2.4)
        side = rng.choice([-1, 1])
        for centre in (0.0, apart):
            inner, outer = centre + side * (width / 2 - depth), centre + side * width / 2
            box([x, min(inner, outer), 0], [x + 0.6, max(inner, outer), tall], len(looks) // 2)
    for centre in (0.0, apart):  # the walls beside each, and the near end
        for side in (-1, 1):
            wall = centre + side * (width / 2 + 0.1)
            box([-2, wall - 0.1, 0], [length, wall + 0.1, height], 1000 + side)
        box([-2.2, centre - width / 2 - 0.2, 0], [-2, centre + width / 2 + 0.2, height], 1010)
    shell = np.array([[-2.3, -width / 2 - 0.2, 0], [length + width, apart + width / 2 + 0.2, height]])
    return World(shell, np.array(low), np.array(high), np.array(looks), repeats_m=apart)


def look(position: np.ndarray, direction: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """`(4, 4)` camera-to-world that looks along a direction, OpenCV axes."""
    forward = direction / np.linalg.norm(direction)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    camera = np.eye(4)
    turned = [np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right]
    camera[:3, :3] = np.stack([*turned, forward], 1)
    camera[:3, 3] = position
    return camera


def around_the_hall(frames: int, step_m: float) -> np.ndarray:
    way_m = np.arange(frames) * step_m
    angle = np.linspace(0, 2 * np.pi, 4000)
    ring = np.stack([10 * np.cos(angle), 6 * np.sin(angle)], 1)
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(ring, axis=0), axis=1))])
    at = np.interp(way_m % arc[-1], arc, angle)
    position = np.stack([10 * np.cos(at), 6 * np.sin(at), 1.4 + 0.05 * np.sin(2.1 * way_m)], 1)
    ahead = np.arctan2(6 * np.cos(at), -10 * np.sin(at)) + 0.35 * np.sin(0.31 * way_m)
    direction = np.stack([np.cos(ahead), np.sin(ahead), -0.05 + 0.06 * np.sin(0.47 * way_m)], 1)
    return np.stack([look(*view) for view in zip(position, direction, 0.02 * np.sin(way_m), strict=True)])


def down_the_street(frames: int, step_m: float) -> np.ndarray:
    way_m = np.arange(frames) * step_m
    position = np.stack([way_m, 0.4 * np.sin(0.11 * way_m), 1.6 + 0.02 * np.sin(2 * way_m)], 1)
    direction = np.stack([0 * way_m + 1, 0.12 * np.sin(0.17 * way_m), -0.02 + 0.02 * np.sin(0.5 * way_m)], 1)
    return np.stack([look(*view) for view in zip(position, direction, 0.01 * np.sin(way_m), strict=True)])


def through_both_corridors(frames: int, step_m: float) -> np.ndarray:
    """Up one corridor, across, turn round, and up the other from its near end: carried there with the eyes ahead."""
    length, apart = CORRIDOR_M[0], CORRIDOR_APART_M
    turn = length + 1.0
    corners = np.array([[0.0, 0], [turn, 0], [turn, apart], [0.5, apart], [0.0, apart], [turn, apart]])
    legs = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    arc = np.concatenate([[0], np.cumsum(legs)])
    way_m = np.arange(frames) * step_m
    position = np.stack([np.interp(way_m, arc, corners[:, 0]), np.interp(way_m, arc, corners[:, 1])], 1)
    # Headings: along x, along y, back along -x, then round again. They change within 2 m.
    heading = np.interp(way_m, [arc[1] - 1, arc[1] + 1, arc[2] - 1, arc[2] + 1, arc[3] - 1, arc[4] + 1],
                        np.array([0, 0.5, 0.5, 1, 1, 2]) * np.pi)  # fmt: skip
    height = 1.4 + 0.03 * np.sin(2.1 * way_m)
    direction = np.stack([np.cos(heading), np.sin(heading), -0.05 + 0 * way_m], 1)
    return np.stack([look(np.array([*p, z]), d) for p, z, d in zip(position, height, direction, strict=True)])


WORLDS = {"hall": hall, "street": street, "corridors": corridors}
PATHS = {"hall": around_the_hall, "street": down_the_street, "corridors": through_both_corridors}
