# SPDX-License-Identifier: Apache-2.0
"""The contact sheet: what the camera saw, what the node said, and the truth beside it, on one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from da3_core.visualise import colorize_depth, depth_range
from da3_ros.demo.comparison import Findings, PosedFrames

LEFT_WIDTH, ROWS_HEIGHT = 1030, 990
GAP, MARGIN = 10, 32
MAP_SIZE = 470
REACH = 0.055  # of the drawn fields of view, as a share of the map
INK, SOFT, LINE, PAPER = (28, 32, 40), (105, 112, 124), (216, 220, 226), (255, 255, 255)
AMBER, AMBER_INK = (255, 243, 214), (140, 84, 0)
TRUTH, ESTIMATE = (18, 140, 76), (222, 74, 30)


@dataclass(frozen=True)
class Caption:
    """The words of the sheet: a title, one line under it, a warning or None, and the numbers as (name, value)."""

    title: str
    subtitle: str
    warning: str | None
    numbers: Sequence[tuple[str, str]]


def draw_sheet(findings: Findings, caption: Caption) -> Image.Image:
    """Rows of frames on the left, estimate and truth from above on the right, numbers at the bottom."""
    height, width = findings.estimate.depth.shape[1:]
    columns = 3 if findings.truth is None else 4
    tile_w = (LEFT_WIDTH - (columns - 1) * GAP) // columns
    tile_h = round(tile_w * height / width)
    rows = min(len(findings.seconds), max(2, round(ROWS_HEIGHT / (tile_h + GAP))))
    top = 172 if caption.warning else 118
    rows_height = rows * (tile_h + GAP)
    body = max(rows_height + 40, 2 * (MAP_SIZE + 34))
    numbers_top = top + 34 + body + 16
    sheet = Image.new("RGB", (2 * MARGIN + LEFT_WIDTH + 36 + MAP_SIZE, numbers_top + 118), PAPER)
    draw = ImageDraw.Draw(sheet)

    draw_heading(draw, caption, sheet.width)
    draw_frames(sheet, draw, findings, rows, (MARGIN, top), (tile_w, tile_h))
    draw_legends(sheet, draw, findings, (MARGIN, top + 34 + rows_height + 4), tile_w)
    draw_maps(sheet, draw, findings, (MARGIN + LEFT_WIDTH + 36, top))
    draw_numbers(draw, caption.numbers, numbers_top, sheet.width)
    return sheet


def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)  # type: ignore[return-value]


def draw_heading(draw: ImageDraw.ImageDraw, caption: Caption, width: int) -> None:
    draw.text((MARGIN, 26), caption.title, INK, font(32))
    draw.text((MARGIN, 70), caption.subtitle, SOFT, font(18))
    if caption.warning:
        draw.rounded_rectangle((MARGIN, 106, width - MARGIN, 150), 8, AMBER)
        draw.text((MARGIN + 16, 128), caption.warning, AMBER_INK, font(19), anchor="lm")


def draw_frames(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    findings: Findings,
    rows: int,
    corner: tuple[int, int],
    tile: tuple[int, int],
) -> None:
    """Evenly chosen frames, one a row: colour, true depth where it is known, estimated depth, confidence."""
    (left, top), (tile_w, tile_h) = corner, tile
    truth, estimate = findings.truth, findings.estimate
    near, far = depth_range(estimate.depth if truth is None else truth.depth)
    low, high = confidence_range(findings.confidence)
    columns = ["camera image", *(() if truth is None else ("true depth",)), "estimated depth", "confidence"]
    for column, name in enumerate(columns):
        draw.text((left + column * (tile_w + GAP) + tile_w / 2, top + 14), name, INK, font(18), anchor="mm")
    for row, i in enumerate(np.linspace(0, len(estimate.depth) - 1, rows).round().astype(int)):
        tiles = [
            estimate.colour[i],
            *(() if truth is None else (colorize_depth(truth.depth[i], near, far),)),
            colorize_depth(estimate.depth[i], near, far),
            colorize_confidence(findings.confidence[i], low, high),
        ]
        y = top + 34 + row * (tile_h + GAP)
        for column, picture in enumerate(tiles):
            resized = cv2.resize(picture, tile, interpolation=cv2.INTER_AREA)
            sheet.paste(Image.fromarray(resized), (left + column * (tile_w + GAP), y))
        label = f"{i + 1}" if truth is None else f"{findings.seconds[i]:.1f} s"
        draw.rounded_rectangle((left + 6, y + 6, left + 12 + 12 * len(label), y + 30), 5, (0, 0, 0))
        draw.text((left + 9 + 6 * len(label), y + 18), label, PAPER, font(16), anchor="mm")


def draw_legends(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, findings: Findings, corner: tuple[int, int], tile_w: int
) -> None:
    """What the colours of the depth and confidence columns mean."""
    left, top = corner
    depths = 1 if findings.truth is None else 2
    near, far = depth_range((findings.truth or findings.estimate).depth)
    low, high = confidence_range(findings.confidence)
    depth_bar = colorize_depth(1.0 / np.linspace(1 / near, 1 / far, depths * (tile_w + GAP) - GAP)[None], near, far)
    confidence_bar = colorize_confidence(np.linspace(low, high, tile_w)[None], low, high)
    unit = f" {findings.unit}" if findings.truth else ""
    bars = (
        (1, depth_bar, f"near: {near:.1f}{unit}", f"far: {far:.1f}{unit}"),
        (1 + depths, confidence_bar, f"{low:.2f}", f"{high:.2f}"),
    )
    for column, bar, first, last in bars:
        x = left + column * (tile_w + GAP)
        sheet.paste(Image.fromarray(np.repeat(bar, 8, axis=0)), (x, top))
        draw.text((x, top + 20), first, SOFT, font(15), anchor="lm")
        draw.text((x + bar.shape[1], top + 20), last, SOFT, font(15), anchor="rm")


def confidence_range(confidence: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(confidence[np.isfinite(confidence)], (2, 98))
    return float(low), float(max(high, low + 1e-6))


def colorize_confidence(confidence: np.ndarray, low: float, high: float) -> np.ndarray:
    """`(H, W, 3)` uint8: dark is uncertain, bright is certain."""
    level = np.nan_to_num(np.clip((confidence - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS)[..., ::-1])


def draw_maps(sheet: Image.Image, draw: ImageDraw.ImageDraw, findings: Findings, corner: tuple[int, int]) -> None:
    """The place from above by the estimate, and on the same grid by the truth where it is known."""
    left, top = corner
    truth, estimate = findings.truth, findings.estimate
    if truth is None and not estimate.placed.any():
        draw.text((left, top + 34), "No two images share enough features\nto be placed in one map.", SOFT, font(20))
        return
    view = TopView.around(truth or estimate, findings.unit)
    paths = {"estimate, from above": (estimate, [(estimate, ESTIMATE)])}
    names = [("estimated path", ESTIMATE)]
    if truth:
        paths = {
            "truth, from above": (truth, [(truth, TRUTH)]),
            "estimate, from above": (estimate, [(truth, TRUTH), (estimate, ESTIMATE)]),
        }
        names.insert(0, ("true path", TRUTH))
    for panel, (name, (cloud, trajectories)) in enumerate(paths.items()):
        y = top + panel * (MAP_SIZE + 48)
        draw.text((left + MAP_SIZE / 2, y + 14), name, INK, font(18), anchor="mm")
        sheet.paste(view.draw(cloud, trajectories), (left, y + 34))
        draw.rectangle((left, y + 34, left + MAP_SIZE - 1, y + 33 + MAP_SIZE), outline=LINE)
    x, y = left + 14, y + 34 + MAP_SIZE - 20
    for name, colour in names:
        draw.rounded_rectangle((x - 6, y - 12, x + 40 + 8 * len(name), y + 12), 6, PAPER)
        draw.line((x, y, x + 22, y), colour, 4)
        draw.text((x + 30, y), name, INK, font(15), anchor="lm")
        x += 66 + 8 * len(name)


@dataclass(frozen=True)
class TopView:
    """A square window on the floor plan: its centre, its scale and the name of its unit."""

    centre: np.ndarray
    pixels_per_unit: float
    unit: str

    @classmethod
    def around(cls, scene: PosedFrames, unit: str) -> "TopView":
        """The window that holds the cloud of `scene`, walls and all, and its path."""
        points, _ = scene.points()
        centres = scene.camera_to_world[scene.placed, :2, 3]
        low, high = np.percentile(points[:, :2], (0.5, 99.5), axis=0)
        low, high = np.minimum(low, centres.min(axis=0)), np.maximum(high, centres.max(axis=0))
        return cls((low + high) / 2, MAP_SIZE / (1.2 * float((high - low).max())), unit)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """`(P, 2)` pixels, x right and y up on the plan, of `(P, 3)` points."""
        pixels: np.ndarray = (points[:, :2] - self.centre) * self.pixels_per_unit * (1, -1) + MAP_SIZE / 2
        return pixels

    def draw(self, cloud: PosedFrames, trajectories: Sequence[tuple[PosedFrames, tuple[int, int, int]]]) -> Image.Image:
        canvas = np.full((MAP_SIZE, MAP_SIZE, 3), 247, np.uint8)
        points, colours = cloud.points()
        eyes = cloud.camera_to_world[cloud.placed, 2, 3]
        below_eyes = points[:, 2] < (np.median(eyes) if len(eyes) else 0) + 0.5
        order = np.argsort(points[below_eyes, 2], kind="stable")
        corners, ordered = np.floor(self.pixels(points[below_eyes][order])).astype(np.int64), colours[below_eyes][order]
        for neighbour in ((1, 1), (0, 1), (1, 0), (0, 0)):  # a point fills its gaps, but never another point
            pixels = corners + neighbour
            inside = ((pixels >= 0) & (pixels < MAP_SIZE)).all(axis=1)
            canvas[pixels[inside, 1], pixels[inside, 0]] = ordered[inside]
        picture = Image.fromarray(canvas).resize((2 * MAP_SIZE, 2 * MAP_SIZE))
        draw = ImageDraw.Draw(picture)
        self._grid(draw)
        for scene, colour in trajectories:
            self._path(draw, scene, colour)
        return picture.resize((MAP_SIZE, MAP_SIZE), Image.Resampling.LANCZOS)

    def _grid(self, draw: ImageDraw.ImageDraw) -> None:
        """A scale of one unit in the corner."""
        length, y = 2 * self.pixels_per_unit, 36
        draw.rounded_rectangle((20, 14, 20 + length + 100, 58), 12, PAPER)
        draw.line((36, y, 36 + length, y), INK, 5)
        draw.text((48 + length, y), f"1 {self.unit}", INK, font(30), anchor="lm")

    def _path(self, draw: ImageDraw.ImageDraw, scene: PosedFrames, colour: tuple[int, int, int]) -> None:
        """The camera centres of the placed frames, and the first and last field of view."""
        placed = np.flatnonzero(scene.placed)
        if len(placed) == 0:
            return
        centres = 2 * self.pixels(scene.camera_to_world[placed, :3, 3])
        draw.line([tuple(p) for p in centres], PAPER, 12, joint="curve")
        draw.line([tuple(p) for p in centres], colour, 7, joint="curve")
        for i in (0, -1):
            corners = 2 * self.pixels(scene.view_corners(placed[i], reach=REACH * MAP_SIZE / self.pixels_per_unit))
            draw.polygon([tuple(centres[i]), *(tuple(p) for p in corners)], outline=colour, width=5)
        x, y = centres[0]
        draw.ellipse((x - 9, y - 9, x + 9, y + 9), colour, PAPER, 3)


def draw_numbers(draw: ImageDraw.ImageDraw, numbers: Sequence[tuple[str, str]], top: int, width: int) -> None:
    """A row of figures with their names under them."""
    draw.line((MARGIN, top, width - MARGIN, top), LINE, 2)
    step = (width - 2 * MARGIN) / len(numbers)
    for i, (name, value) in enumerate(numbers):
        draw.text((MARGIN + i * step, top + 22), value, INK, font(26))
        draw.text((MARGIN + i * step, top + 62), name, SOFT, font(15), spacing=4)
