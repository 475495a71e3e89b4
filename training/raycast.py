# SPDX-License-Identifier: Apache-2.0
"""A compiled ray caster for scenes of boxes, balls, tubes and cut-out cards: colour with soft shadow, exact z-depth.

A ray that starts at the camera with unit z in camera axes meets a surface at a parameter that *is* the z-depth. World:
metres, z up. Pixel edges at integers, so that pixel u has its centre at u + 0.5.
"""

# ruff: noqa: NPY002, SIM109 - compiled code knows neither generators nor membership in tuples

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

BOX, BALL, TUBE, CUP, CARD, ROUND_BOX, RING = range(7)
_MISS = np.float32(1e9)
_TILE = 16
_NEAR, _TINY, _ZERO, _ONE = np.float32(2e-3), np.float32(1e-12), np.float32(0), np.float32(1)


class Solids(NamedTuple):
    """All solids of a scene, one row each.

    Attributes:
        kind: (n,) one of the constants above.
        rotation: (n, 3, 3) local to world.
        centre, half: (n, 3) metres; half sizes along the local axes.
        shape: (n,) of a tube the radius at its top against that at its foot, of a ball the height (-1 to 1) above which
            it is cut off, of a ring or a round box the small radius in metres.
        texture: (n, 2) tile on the sides and on top.
        tile_m: (n,) metres that a tile covers.
        offset: (n, 2) shift of the tile.
        tint: (n, 3) factor on the colour.
        gloss, glow: (n,) strength of highlights, own light.
        shell: (n,) bool, walls and grounds: they stop sunlight but not lamps.
    """

    kind: np.ndarray
    rotation: np.ndarray
    centre: np.ndarray
    half: np.ndarray
    shape: np.ndarray
    texture: np.ndarray
    tile_m: np.ndarray
    offset: np.ndarray
    tint: np.ndarray
    gloss: np.ndarray
    glow: np.ndarray
    shell: np.ndarray


class Light(NamedTuple):
    """What lights a scene.

    Attributes:
        lamps: (k, 8) position, colour, radius (soft edge of shadows), reach (distance of half brightness); a reach of
            0 marks a sun, so far away that only its direction matters.
        low, high: (3,) light from everywhere, from below and from above.
        horizon, zenith: (3,) colours of the sky.
        clouds: tile of the sky, -1 for none.
        fog: 1 / metres.
        occlusion_m: how far corners darken; 0 for not at all.
    """

    lamps: np.ndarray
    low: np.ndarray
    high: np.ndarray
    horizon: np.ndarray
    zenith: np.ndarray
    clouds: int
    fog: float
    occlusion_m: float


class Tiles(NamedTuple):
    """Square pictures with all their halvings: `texels` (count, sum of sizes squared, 4) uint8 RGBA, display values."""

    texels: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray


@njit(cache=True, fastmath=True)
def _inside_card(texels, start, size, tile, x, z, hx, hz):
    """Whether a cut-out has substance at a place."""
    column = min(int((x / hx * 0.5 + 0.5) * size), size - 1)
    row = min(int((0.5 - z / hz * 0.5) * size), size - 1)
    return texels[tile, start + row * size + column, 3] > 127


@njit(cache=True, fastmath=True)
def _distance(kind, x, y, z, hx, hy, hz, radius):
    """Distance to a ring about z or to a box with round edges."""
    if kind == RING:
        ring = np.sqrt(x * x + y * y) - (hx - radius)
        return np.sqrt(ring * ring + z * z) - radius
    a, b, c = abs(x) - hx + radius, abs(y) - hy + radius, abs(z) - hz + radius
    outside = np.sqrt(max(a, _ZERO) ** 2 + max(b, _ZERO) ** 2 + max(c, _ZERO) ** 2)
    return outside + min(max(a, max(b, c)), _ZERO) - radius


@njit(cache=True, fastmath=True)
def _span(o, d, h):
    """Parameters at which a ray is between two planes at -h and h."""
    inverse = _ONE / (d + _TINY)
    a, b = (-h - o) * inverse, (h - o) * inverse
    return min(a, b), max(a, b)


@njit(cache=True, fastmath=True)
def _hit_box(ox, oy, oz, dx, dy, dz, hx, hy, hz):
    ax, bx = _span(ox, dx, hx)
    ay, by = _span(oy, dy, hy)
    az, bz = _span(oz, dz, hz)
    near, far = max(ax, max(ay, az)), min(bx, min(by, bz))
    return near if near < far and near > _NEAR else _MISS


@njit(cache=True, fastmath=True)
def _march(kind, ox, oy, oz, dx, dy, dz, hx, hy, hz, radius):
    """Sphere tracing from one face of the bounding box to the other."""
    ax, bx = _span(ox, dx, hx)
    ay, by = _span(oy, dy, hy)
    az, bz = _span(oz, dz, hz)
    t, far = max(max(ax, _NEAR), max(ay, az)), min(bx, min(by, bz))
    length = np.sqrt(dx * dx + dy * dy + dz * dz)
    for _ in range(32):
        if t > far:
            return _MISS
        step = _distance(kind, ox + t * dx, oy + t * dy, oz + t * dz, hx, hy, hz, radius)
        if step < np.float32(3e-4) * (_ONE + t):
            return t if t > _NEAR else _MISS
        t += step / length
    return _MISS


@njit(cache=True, fastmath=True)
def _hit_ball(ox, oy, oz, dx, dy, dz, hx, hy, hz, top):
    ox, oy, oz, dx, dy, dz = ox / hx, oy / hy, oz / hz, dx / hx, dy / hy, dz / hz
    a, b, c = dx * dx + dy * dy + dz * dz, ox * dx + oy * dy + oz * dz, ox * ox + oy * oy + oz * oz - _ONE
    q = b * b - a * c
    if q <= 0:
        return _MISS
    q = np.sqrt(q)
    t = (-b - q) / a
    if t > _NEAR and oz + t * dz <= top:
        return t
    t = (-b + q) / a
    return t if top < 1 and t > _NEAR and oz + t * dz <= top else _MISS


@njit(cache=True, fastmath=True)
def _hit_tube(ox, oy, oz, dx, dy, dz, hx, hy, hz, top, is_open):
    ox, oy, oz, dx, dy, dz = ox / hx, oy / hy, oz / hz, dx / hx, dy / hy, dz / hz
    mean, slope = (_ONE + top) * np.float32(0.5), (top - _ONE) * np.float32(0.5)
    wall = mean + slope * oz
    a = dx * dx + dy * dy - slope * slope * dz * dz
    b, c = ox * dx + oy * dy - slope * dz * wall, ox * ox + oy * oy - wall * wall
    best = _MISS
    q = b * b - a * c
    if q > 0 and abs(a) > _TINY:
        q = np.sqrt(q)
        for sign in range(2):
            t = (-b + q) / a if sign else (-b - q) / a
            z = oz + t * dz
            if t > _NEAR and t < best and abs(z) <= 1 and mean + slope * z >= 0:
                best = t
    for end in range(1 if is_open else 2):
        z, radius = (_ONE, top) if end else (-_ONE, _ONE)
        t = (z - oz) / (dz + _TINY)
        if t > _NEAR and t < best:
            x, y = ox + t * dx, oy + t * dy
            if x * x + y * y <= radius * radius:
                best = t
    return best


@njit(cache=True, fastmath=True)
def _hit(kind, ox, oy, oz, dx, dy, dz, hx, hy, hz, shape, texels, start, size, tile):
    """First parameter at which a local ray meets a solid, or _MISS."""
    if kind == BOX:
        return _hit_box(ox, oy, oz, dx, dy, dz, hx, hy, hz)
    if kind == BALL:
        return _hit_ball(ox, oy, oz, dx, dy, dz, hx, hy, hz, shape)
    if kind == TUBE or kind == CUP:
        return _hit_tube(ox, oy, oz, dx, dy, dz, hx, hy, hz, shape, kind == CUP)
    if kind == CARD:
        t = -oy / (dy + _TINY)
        x, z = ox + t * dx, oz + t * dz
        there = t > _NEAR and abs(x) < hx and abs(z) < hz
        return t if there and _inside_card(texels, start, size, tile, x, z, hx, hz) else _MISS
    return _march(kind, ox, oy, oz, dx, dy, dz, hx, hy, hz, shape)


@njit(cache=True, fastmath=True)
def _bounds(rotation, centre, half, i, eye, to_world, focal, centre_u, centre_v, height, width):
    """First and last row and column that solid i can cover; rows 0 to 0 where it is behind the camera."""
    low_u, high_u, low_v, high_v, ahead, behind = 1e9, -1e9, 1e9, -1e9, False, False
    for corner in range(8):
        x = y = z = np.float32(0)
        for k in range(3):
            w = centre[i, k] - eye[k]
            for m in range(3):
                w += rotation[i, k, m] * (half[i, m] if corner >> m & 1 else -half[i, m])
            x, y, z = x + to_world[k, 0] * w, y + to_world[k, 1] * w, z + to_world[k, 2] * w
        if z < 0.02:
            behind = True
        else:
            ahead = True
            u, v = x / z * focal + centre_u, y / z * focal + centre_v
            low_u, high_u, low_v, high_v = min(low_u, u), max(high_u, u), min(low_v, v), max(high_v, v)
    if not ahead:
        return 0, 0, 0, 0
    if behind:
        return 0, height, 0, width
    first_row, last_row = int(max(low_v - 1, 0)), int(min(max(high_v + 2, 0), height))
    first_column, last_column = int(max(low_u - 1, 0)), int(min(max(high_u + 2, 0), width))
    return first_row, last_row, first_column, last_column


@njit(cache=True, fastmath=True)
def _first_hits(
    kinds, rotation, centre, half, shape, texture, texels, start, size, eye, to_world, focal, height, width
):
    centre_u, centre_v = width * 0.5, height * 0.5
    depth = np.full((height, width), _MISS, np.float32)
    index = np.full((height, width), -1, np.int32)
    m = np.empty((3, 3), np.float32)
    for i in range(len(kinds)):
        top, bottom, left, right = _bounds(
            rotation, centre, half, i, eye, to_world, focal, centre_u, centre_v, height, width
        )
        if top >= bottom or left >= right:
            continue
        ox = oy = oz = np.float32(0)
        for k in range(3):
            w = eye[k] - centre[i, k]
            ox, oy, oz = ox + rotation[i, k, 0] * w, oy + rotation[i, k, 1] * w, oz + rotation[i, k, 2] * w
        for k in range(3):
            for j in range(3):
                m[k, j] = 0
                for n in range(3):
                    m[k, j] += rotation[i, n, k] * to_world[n, j]
        a0, a1, a2, b0, b1, b2 = m[0, 0], m[0, 1], m[0, 2], m[1, 0], m[1, 1], m[1, 2]
        c0, c1, c2 = m[2, 0], m[2, 1], m[2, 2]
        kind, hx, hy, hz, extra, tile = kinds[i], half[i, 0], half[i, 1], half[i, 2], shape[i], texture[i, 0]
        for v in range(top, bottom):
            y = np.float32((v + 0.5 - centre_v) / focal)
            for u in range(left, right):
                x = np.float32((u + 0.5 - centre_u) / focal)
                dx, dy, dz = a0 * x + a1 * y + a2, b0 * x + b1 * y + b2, c0 * x + c1 * y + c2
                t = _hit(kind, ox, oy, oz, dx, dy, dz, hx, hy, hz, extra, texels, start, size, tile)
                if t < depth[v, u]:
                    depth[v, u], index[v, u] = t, i
    return depth, index


@njit(cache=True, fastmath=True)
def _blocked(
    kinds, rotation, centre, half, shape, texture, reach, texels, start, size,
    candidates, count, px, py, pz, dx, dy, dz, length,
):  # fmt: skip
    """Whether one of the first `count` candidates stands within `length` metres of p in a unit direction."""
    for j in range(count):
        i = candidates[j]
        cx, cy, cz = px - centre[i, 0], py - centre[i, 1], pz - centre[i, 2]
        along, radius = -(cx * dx + cy * dy + cz * dz), reach[i]
        if along < -radius or along > length + radius:
            continue
        if cx * cx + cy * cy + cz * cz - along * along > radius * radius:
            continue
        ox = rotation[i, 0, 0] * cx + rotation[i, 1, 0] * cy + rotation[i, 2, 0] * cz
        oy = rotation[i, 0, 1] * cx + rotation[i, 1, 1] * cy + rotation[i, 2, 1] * cz
        oz = rotation[i, 0, 2] * cx + rotation[i, 1, 2] * cy + rotation[i, 2, 2] * cz
        ex = rotation[i, 0, 0] * dx + rotation[i, 1, 0] * dy + rotation[i, 2, 0] * dz
        ey = rotation[i, 0, 1] * dx + rotation[i, 1, 1] * dy + rotation[i, 2, 1] * dz
        ez = rotation[i, 0, 2] * dx + rotation[i, 1, 2] * dy + rotation[i, 2, 2] * dz
        t = _hit(
            kinds[i], ox, oy, oz, ex, ey, ez, half[i, 0], half[i, 1], half[i, 2], shape[i], texels, start, size,
            texture[i, 0],
        )  # fmt: skip
        if t < length:
            return True
    return False


@njit(cache=True, fastmath=True)
def _near_segment(centre, reach, skip, ax, ay, az, bx, by, bz, radius, found):
    """Write the solids within `radius` of a segment from a to b into `found`, all but those of `skip`; how many."""
    dx, dy, dz = bx - ax, by - ay, bz - az
    square, count = dx * dx + dy * dy + dz * dz + _TINY, 0
    for i in range(len(reach)):
        if skip[i]:
            continue
        cx, cy, cz = centre[i, 0] - ax, centre[i, 1] - ay, centre[i, 2] - az
        s = min(max((cx * dx + cy * dy + cz * dz) / square, _ZERO), _ONE)
        cx, cy, cz = cx - s * dx, cy - s * dy, cz - s * dz
        if cx * cx + cy * cy + cz * cz < (reach[i] + radius) ** 2:
            found[count] = i
            count += 1
    return count


@njit(cache=True, fastmath=True)
def _gather(centre, reach, shell, lamps, occlusion_m, points, hits, counts, found):
    """For a tile of surface points: solids that may darken its corners (row 0), stand before each lamp (other rows)."""
    number = max(hits, 1)
    x, y, z = points[:hits, 0].sum() / number, points[:hits, 1].sum() / number, points[:hits, 2].sum() / number
    radius = _ZERO
    for k in range(hits):
        radius = max(radius, (points[k, 0] - x) ** 2 + (points[k, 1] - y) ** 2 + (points[k, 2] - z) ** 2)
    radius = np.sqrt(radius)
    nothing = np.zeros(len(shell), np.bool_)
    if occlusion_m > 0:
        counts[0] = _near_segment(centre, reach, nothing, x, y, z, x, y, z, radius + np.float32(occlusion_m), found[0])
    for j in range(len(lamps)):
        px, py, pz = lamps[j, 0], lamps[j, 1], lamps[j, 2]
        is_lamp, blur = lamps[j, 7] > 0, 3 * lamps[j, 6]
        if not is_lamp:
            px, py, pz, blur = x + 200 * px, y + 200 * py, z + 200 * pz, blur * 20
        skip = shell if is_lamp else nothing
        counts[1 + j] = _near_segment(centre, reach, skip, x, y, z, px, py, pz, radius + blur, found[1 + j])


@njit(cache=True, fastmath=True)
def _unroll(kind, x, y, z, hx, hy, hz, shape):
    """Local normal (3), place on the surface (2) in metres, and 1 on top or below, else 0."""
    if kind == BOX or kind == ROUND_BOX:
        a, b, c = abs(x) / hx, abs(y) / hy, abs(z) / hz
        axis = 0 if a >= b and a >= c else (1 if b >= c else 2)
        if kind == ROUND_BOX:
            nx = max(abs(x) - hx + shape, _ZERO) * np.sign(x)
            ny = max(abs(y) - hy + shape, _ZERO) * np.sign(y)
            nz = max(abs(z) - hz + shape, _ZERO) * np.sign(z)
        else:
            nx, ny, nz = _ZERO, _ZERO, _ZERO
            if axis == 0:
                nx = np.sign(x)
            elif axis == 1:
                ny = np.sign(y)
            else:
                nz = np.sign(z)
        su, sv = (y, -z) if axis == 0 else ((x, -z) if axis == 1 else (x, y))
        cap = 1 if axis == 2 else 0
    elif kind == BALL:
        nx, ny, nz = x / hx / hx, y / hy / hy, z / hz / hz
        su, sv = np.arctan2(y / hy, x / hx) * hx, -np.arcsin(min(max(z / hz, -_ONE), _ONE)) * hz
        cap = 0
    elif kind == TUBE or kind == CUP:
        if abs(z) > np.float32(0.9995) * hz:
            nx, ny, nz, su, sv, cap = _ZERO, _ZERO, np.sign(z), x, y, 1
        else:
            slope = (shape - _ONE) * np.float32(0.5)
            radius = (_ONE + shape) * np.float32(0.5) + slope * z / hz
            nx, ny, nz, cap = x / hx / hx, y / hy / hy, -radius * slope / hz, 0
            su, sv = np.arctan2(y / hy, x / hx) * hx, -z
    elif kind == CARD:
        nx, ny, nz, cap = _ZERO, _ONE, _ZERO, 0
        su, sv = x / hx * np.float32(0.5) + np.float32(0.5), np.float32(0.5) - z / hz * np.float32(0.5)
    else:
        flat = np.sqrt(x * x + y * y) + _TINY
        ring = _ONE - (hx - shape) / flat
        nx, ny, nz, cap = x * ring, y * ring, z, 0
        su, sv = np.arctan2(y, x) * hx, np.arctan2(z, flat - hx) * shape
    norm = np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9)
    return nx / norm, ny / norm, nz / norm, su, sv, cap


@njit(cache=True, fastmath=True)
def _texel(texels, tile, start, size, u, v):
    """Bilinear RGB in 0..1 of one halving of a tile that repeats."""
    x, y = (u - np.floor(u)) * size - np.float32(0.5), (v - np.floor(v)) * size - np.float32(0.5)
    column, row = int(np.floor(x)), int(np.floor(y))
    a, b = np.float32(x - column), np.float32(y - row)
    c0, c1 = (column + size) % size, (column + 1) % size
    r0, r1 = start + ((row + size) % size) * size, start + ((row + 1) % size) * size
    p, q, r, s = (_ONE - a) * (_ONE - b), a * (_ONE - b), (_ONE - a) * b, a * b
    w = np.float32(1 / 255)
    red = texels[tile, r0 + c0, 0] * p + texels[tile, r0 + c1, 0] * q + texels[tile, r1 + c0, 0] * r
    green = texels[tile, r0 + c0, 1] * p + texels[tile, r0 + c1, 1] * q + texels[tile, r1 + c0, 1] * r
    blue = texels[tile, r0 + c0, 2] * p + texels[tile, r0 + c1, 2] * q + texels[tile, r1 + c0, 2] * r
    red += texels[tile, r1 + c1, 0] * s
    green += texels[tile, r1 + c1, 1] * s
    blue += texels[tile, r1 + c1, 2] * s
    return red * w, green * w, blue * w


@njit(cache=True, fastmath=True)
def _shade(
    kinds, rotation, centre, half, shape, texture, tile_m, offset, tint, gloss, glow, shell,
    lamps, low, high, horizon, zenith, clouds, fog, occlusion_m,
    texels, starts, sizes, depth, index, eye, to_world, focal, seed,
):  # fmt: skip
    height, width = depth.shape
    centre_u, centre_v = width * 0.5, height * 0.5
    colour = np.empty((height, width, 3), np.float32)
    reach = np.empty(len(kinds), np.float32)
    for i in range(len(reach)):
        reach[i] = np.sqrt(half[i, 0] ** 2 + half[i, 1] ** 2 + half[i, 2] ** 2)
    np.random.seed(seed)
    points = np.empty((_TILE * _TILE, 3), np.float32)
    dark = np.zeros(len(lamps), np.bool_)
    found, counts = np.empty((1 + len(lamps), len(kinds)), np.int32), np.zeros(1 + len(lamps), np.int32)
    across = (width + _TILE - 1) // _TILE
    for tile in range(across * ((height + _TILE - 1) // _TILE)):
        top, left = tile // across * _TILE, tile % across * _TILE
        bottom, right = min(top + _TILE, height), min(left + _TILE, width)
        hits = 0
        for v in range(top, bottom):
            for u in range(left, right):
                if index[v, u] >= 0:
                    x, y = np.float32((u + 0.5 - centre_u) / focal), np.float32((v + 0.5 - centre_v) / focal)
                    for k in range(3):
                        points[hits, k] = eye[k] + depth[v, u] * (
                            to_world[k, 0] * x + to_world[k, 1] * y + to_world[k, 2]
                        )
                    hits += 1
        last, open_ = -1, _ONE
        _gather(centre, reach, shell, lamps, occlusion_m, points, hits, counts, found)
        for pixel in range((bottom - top) * (right - left)):
            v, u = top + pixel // (right - left), left + pixel % (right - left)
            x, y = np.float32((u + 0.5 - centre_u) / focal), np.float32((v + 0.5 - centre_v) / focal)
            dx = to_world[0, 0] * x + to_world[0, 1] * y + to_world[0, 2]
            dy = to_world[1, 0] * x + to_world[1, 1] * y + to_world[1, 2]
            dz = to_world[2, 0] * x + to_world[2, 1] * y + to_world[2, 2]
            norm = np.sqrt(dx * dx + dy * dy + dz * dz)
            i = index[v, u]
            if i < 0:
                up, bright = max(dz / norm, _ZERO), _ZERO
                if clouds >= 0:
                    flat = np.float32(0.2) / (abs(dz) + np.float32(0.15))
                    bright = _texel(texels, clouds, starts[1], sizes[1], dx * flat, dy * flat)[0] - np.float32(0.3)
                for k in range(3):
                    sky = horizon[k] + np.sqrt(up) * (zenith[k] - horizon[k])
                    colour[v, u, k] = max(sky + np.float32(0.7) * bright * horizon[k], _ZERO)
                continue
            t = depth[v, u]
            px, py, pz = eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz
            cx, cy, cz = px - centre[i, 0], py - centre[i, 1], pz - centre[i, 2]
            lx = rotation[i, 0, 0] * cx + rotation[i, 1, 0] * cy + rotation[i, 2, 0] * cz
            ly = rotation[i, 0, 1] * cx + rotation[i, 1, 1] * cy + rotation[i, 2, 1] * cz
            lz = rotation[i, 0, 2] * cx + rotation[i, 1, 2] * cy + rotation[i, 2, 2] * cz
            kind = kinds[i]
            ax, ay, az, su, sv, cap = _unroll(kind, lx, ly, lz, half[i, 0], half[i, 1], half[i, 2], shape[i])
            nx = rotation[i, 0, 0] * ax + rotation[i, 0, 1] * ay + rotation[i, 0, 2] * az
            ny = rotation[i, 1, 0] * ax + rotation[i, 1, 1] * ay + rotation[i, 1, 2] * az
            nz = rotation[i, 2, 0] * ax + rotation[i, 2, 1] * ay + rotation[i, 2, 2] * az
            facing = -(nx * dx + ny * dy + nz * dz) / norm
            if facing < 0:
                nx, ny, nz, facing = -nx, -ny, -nz, -facing
            level = 1
            if kind != CARD:
                footprint = t / np.float32(focal) / np.sqrt(max(facing, np.float32(0.08))) / tile_m[i] * sizes[0]
                level = min(int(np.log2(max(footprint, _ONE)) + 0.4), len(sizes) - 1)
                su, sv = su / tile_m[i] + offset[i, 0], sv / tile_m[i] + offset[i, 1]
            red, green, blue = _texel(texels, texture[i, cap], starts[level], sizes[level], su, sv)
            lift = np.float32(2e-3) + np.float32(1e-3) * t
            px, py, pz = px + nx * lift, py + ny * lift, pz + nz * lift
            # Half of the pixels cast rays, in a chequered pattern; the others go by their neighbour on the same solid.
            casts = (u + v) % 2 == 0 or i != last
            last = i
            if casts:
                open_ = _ONE
            if casts and occlusion_m > 0:
                bx, by, bz = np.random.random() - 0.5, np.random.random() - 0.5, np.random.random() - 0.5
                s = 0.999 / np.sqrt(bx * bx + by * by + bz * bz + 1e-9)
                bx, by, bz = bx * s + nx, by * s + ny, bz * s + nz
                s = 1 / np.sqrt(bx * bx + by * by + bz * bz + 1e-9)
                if _blocked(
                    kinds, rotation, centre, half, shape, texture, reach, texels, starts[1], sizes[1],
                    found[0], counts[0], px, py, pz, np.float32(bx * s), np.float32(by * s), np.float32(bz * s),
                    np.float32(occlusion_m),
                ):  # fmt: skip
                    open_ = np.float32(0.45)
            up, everywhere = (
                np.float32(0.5) + np.float32(0.5) * nz,
                open_ * (np.float32(0.8) + np.float32(0.2) * facing),
            )
            light_r = (low[0] + up * (high[0] - low[0])) * everywhere
            light_g = (low[1] + up * (high[1] - low[1])) * everywhere
            light_b = (low[2] + up * (high[2] - low[2])) * everywhere
            shine = _ZERO
            for j in range(len(lamps)):
                is_lamp, blur = lamps[j, 7] > 0, lamps[j, 6]
                lx, ly, lz = lamps[j, 0], lamps[j, 1], lamps[j, 2]
                lx += np.float32(blur * (2 * np.random.random() - 1))
                ly += np.float32(blur * (2 * np.random.random() - 1))
                if is_lamp:
                    lx, ly, lz = lx - px, ly - py, lz - pz
                length = np.sqrt(lx * lx + ly * ly + lz * lz) + np.float32(1e-6)
                lx, ly, lz = lx / length, ly / length, lz / length
                lambert, strength = nx * lx + ny * ly + nz * lz, _ONE
                if is_lamp:
                    strength = _ONE / (_ONE + (length / lamps[j, 7]) ** 2)
                else:
                    length = np.float32(200)
                if lambert <= 0 or strength * lambert < np.float32(0.01):
                    continue
                if casts:
                    dark[j] = _blocked(
                        kinds, rotation, centre, half, shape, texture, reach, texels, starts[1], sizes[1],
                        found[1 + j], counts[1 + j], px, py, pz, lx, ly, lz, length,
                    )  # fmt: skip
                if dark[j]:
                    continue
                light_r += lamps[j, 3] * lambert * strength
                light_g += lamps[j, 4] * lambert * strength
                light_b += lamps[j, 5] * lambert * strength
                if gloss[i] > 0:
                    hx, hy, hz = lx - dx / norm, ly - dy / norm, lz - dz / norm
                    h = (nx * hx + ny * hy + nz * hz) / (np.sqrt(hx * hx + hy * hy + hz * hz) + np.float32(1e-9))
                    shine += strength * max(h, _ZERO) ** 40 * gloss[i]
            veil = np.float32(np.exp(-t * norm * fog))
            red = red * red * tint[i, 0] * (light_r + glow[i]) + shine
            green = green * green * tint[i, 1] * (light_g + glow[i]) + shine
            blue = blue * blue * tint[i, 2] * (light_b + glow[i]) + shine
            colour[v, u, 0] = red * veil + horizon[0] * (_ONE - veil)
            colour[v, u, 1] = green * veil + horizon[1] * (_ONE - veil)
            colour[v, u, 2] = blue * veil + horizon[2] * (_ONE - veil)
    return colour


# Compiled code takes plain arrays: taking them out of tuples inside it would count references at every pixel.


def first_hits(
    solids: Solids, tiles: Tiles, eye: np.ndarray, to_world: np.ndarray, focal: float, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """What a camera with its principal point in the middle sees first.

    Returns z-depth (H, W) float32 in metres, 1e9 where there is nothing, and the index (H, W) of the solid, else -1.
    """
    start, size = int(tiles.offsets[1]), int(tiles.sizes[1])
    depth, index = _first_hits(
        *solids[:6], tiles.texels, start, size, eye, to_world, float(focal), int(height), int(width)
    )
    return depth, index


def shade(
    solids: Solids, tiles: Tiles, light: Light, depth: np.ndarray, index: np.ndarray, eye: np.ndarray,
    to_world: np.ndarray, focal: float, seed: int,
) -> np.ndarray:  # fmt: skip
    """Linear colour (H, W, 3) of what `first_hits` found; soft shadows and dark corners by one random ray each."""
    return _shade(
        *solids, *light[:5], int(light.clouds), float(light.fog), float(light.occlusion_m), *tiles, depth, index, eye,
        to_world, float(focal), int(seed),
    )  # fmt: skip
