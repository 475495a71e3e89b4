# SPDX-License-Identifier: Apache-2.0
"""Rays through pixels to colour and exact depth.

A ray that starts at the camera with unit z in camera axes meets a surface at a parameter that *is* the z-depth. Depth
is taken at pixel centres (`u + 0.5`, pixel edges at integers) and never averaged; only colour is smoothed at outlines.
Pixels, rays and colours are columns: `(2, n)`, `(3, n)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from da3_core.synthetic.lighting import LightMap, bake
from da3_core.synthetic.pictures import make_texture
from da3_core.synthetic.scene import Scene
from da3_core.synthetic.shapes import Shape
from da3_core.synthetic.textures import MipTexture

_NEAR_M = 0.02
_MAX_FACES = 8
_TEXEL_M = 0.004
_TEXTURE_SIZES = (128, 512)
_OUTLINE_SAMPLES = np.array([[-0.375, -0.125, 0.125, 0.375], [0.125, -0.375, 0.375, -0.125]])  # a turned square


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole: `intrinsics` (3, 3) with pixel edges at integers, `camera_to_world` (4, 4), OpenCV axes, metres."""

    intrinsics: np.ndarray
    camera_to_world: np.ndarray

    @property
    def position(self) -> np.ndarray:
        return np.asarray(self.camera_to_world[:3, 3])

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """`(3, n)` float32 world directions with unit camera z through `pixels` (2, n)."""
        to_world = self.camera_to_world[:3, :3] @ np.linalg.inv(self.intrinsics)
        return np.asarray(to_world[:, :2] @ pixels + to_world[:, 2:], np.float32)

    def bounds(self, shape: Shape) -> tuple[float, float, float, float] | None:
        """Left, right, top and bottom of what the shape can cover in the image; None behind the camera."""
        corners = self.camera_to_world[:3, :3].T @ (shape.corners() - self.position[:, None])
        front, back = corners[:, corners[2] >= _NEAR_M], corners[:, corners[2] < _NEAR_M]
        if not front.size:
            return None
        if back.size:  # what crosses the near plane is cut there: all segments between the two sides
            front, back = front[:, :, None], back[:, None, :]
            cut = front + (back - front) * ((_NEAR_M - front[2]) / (back[2] - front[2]))
            front = np.concatenate([front[:, :, 0], cut.reshape(3, -1)], axis=1)
        u, v = self.intrinsics[:2] @ front / front[2]
        return u.min(), u.max(), v.min(), v.max()


def trace(scene: Scene, camera: Camera, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First hits through `pixels` (2, n) whose rows `floor(v)` must not decrease.

    Returns z-depth `(n,)` in metres (inf: nothing there), the index of the shape `(n,)` and the rays `(3, n)`.
    """
    rays = camera.rays(pixels)
    u, row = pixels[0], np.floor(pixels[1])
    depth, index = np.full(len(u), np.inf, np.float32), np.full(len(u), -1, np.intp)
    for number, shape in enumerate(scene.shapes):
        bounds = camera.bounds(shape)
        if bounds is None:
            continue
        left, right, top, bottom = bounds
        first, last = np.searchsorted(row, (np.floor(top), np.floor(bottom) + 1))
        near = first + np.flatnonzero((u[first:last] >= left) & (u[first:last] <= right))
        hit = shape.hit(camera.position, rays[:, near])
        nearer = hit < depth[near]
        near = near[nearer]
        depth[near], index[near] = hit[nearer], number
    return depth, index, rays


def pixel_centres(size: tuple[int, int]) -> np.ndarray:
    """`(2, H*W)` float64 u and v of all pixel centres, row by row."""
    v, u = np.mgrid[0 : size[0], 0 : size[1]].reshape(2, -1) + 0.5
    return np.stack([u, v])


def render_depth(scene: Scene, camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """`(H, W)` float32 z-depth in metres at pixel centres, inf where there is nothing."""
    return trace(scene, camera, pixel_centres(size))[0].reshape(size)


@dataclass(frozen=True, eq=False)
class LitScene:
    """A scene with its pictures made and its light computed, ready for any number of frames."""

    scene: Scene
    textures: dict[str, MipTexture]
    light: dict[tuple[int, int], LightMap]

    @classmethod
    def prepare(cls, scene: Scene, seed: int) -> LitScene:
        """Make its pictures, about one texel for every 4 mm, and its light maps."""
        widths: dict[str, float] = {}
        for material in (material for shape in scene.shapes for material in shape.materials):
            widths[material.texture] = max(widths.get(material.texture, 0), *material.tile_m)
        texels = {name: 2 ** int(np.ceil(np.log2(width / _TEXEL_M))) for name, width in widths.items()}
        textures = {name: make_texture(name, seed, int(np.clip(n, *_TEXTURE_SIZES))) for name, n in texels.items()}
        return cls(scene, textures, bake(scene))

    def render(self, camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Image `(H, W, 3)` uint8 RGB and z-depth `(H, W)` float32 metres."""
        pixels = pixel_centres(size)
        colour, depth, surface = self._shade(camera, pixels)
        outline = np.flatnonzero(_outlines(surface.reshape(size)))
        around = (pixels[:, outline, None] + _OUTLINE_SAMPLES[:, None]).reshape(2, -1)
        colour[:, outline] = self._shade(camera, around)[0].reshape(3, len(outline), -1).mean(-1)
        image = (np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8)
        return np.ascontiguousarray(image.T).reshape(*size, 3), depth.reshape(size)

    def _shade(self, camera: Camera, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colour `(3, n)`, z-depth `(n,)` and a number for the face `(n,)` seen through each of `pixels` (2, n)."""
        depth, index, rays = trace(self.scene, camera, pixels)
        colour, surface = np.zeros((3, len(index)), np.float32), np.full(len(index), -1)
        pixel_m_per_depth = np.float32(1 / np.sqrt(abs(np.linalg.det(camera.intrinsics[:2, :2]))))
        order = np.argsort(index, kind="stable")
        stops = np.searchsorted(index[order], np.arange(len(self.scene.shapes) + 1))
        for number, shape in enumerate(self.scene.shapes):
            seen = order[stops[number] : stops[number + 1]]
            if not len(seen):
                continue
            ray = rays[:, seen]
            face, uv, normal = shape.unroll(camera.position[:, None].astype(np.float32) + ray * depth[seen])
            surface[seen] = number * _MAX_FACES + face
            facing = np.abs((normal * ray).sum(0)) / np.sqrt((ray * ray).sum(0))
            # A pixel covers more of a slanted surface in one direction only: half way between blur and flicker.
            footprint_m = depth[seen] * pixel_m_per_depth / np.sqrt(np.maximum(facing, 0.05))
            for kind in range(shape.faces):
                there = np.flatnonzero(face == kind)
                if not len(there):
                    continue
                colour[:, seen[there]] = self._face_colour(number, kind, uv[:, there], footprint_m[there])
        return colour, depth, surface

    def _face_colour(self, number: int, face: int, uv: np.ndarray, footprint_m: np.ndarray) -> np.ndarray:
        material = self.scene.shapes[number].material(face)
        tile_m, tint = np.array(material.tile_m, np.float32), np.array(material.tint, np.float32)
        picture = self.textures[material.texture].sample(uv / tile_m[:, None], footprint_m / tile_m.max())
        return np.asarray(picture * self.light[number, face].sample(uv) * tint[:, None])


def _outlines(surface: np.ndarray) -> np.ndarray:
    """`(H, W)` bool: pixels that show another face than a neighbour."""
    mask = np.zeros(surface.shape, bool)
    across, down = surface[:, 1:] != surface[:, :-1], surface[1:] != surface[:-1]
    mask[:, 1:] |= across
    mask[:, :-1] |= across
    mask[1:] |= down
    mask[:-1] |= down
    return mask
