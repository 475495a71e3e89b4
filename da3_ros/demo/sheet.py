# SPDX-License-Identifier: Apache-2.0
"""The contact sheet: what the camera saw, what the node said, and the truth beside it, on one picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from da3_core.visualise import colorize_depth, depth_range
from da3_ros.demo.comparison import Comparison, Scene

ROWS = 5
TILE_W, GAP, MARGIN = 250, 10, 32
MAP_SIZE = 470
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


def draw_sheet(comparison: Comparison, caption: Caption) -> Image.Image:
    """Rows of frames on the left, truth and estimate from above on the right, numbers at the bottom."""
    height, width = comparison.truth.depth.shape[1:]
    tile_h = round(TILE_W * height / width)
    top = 172 if caption.warning else 118
    left_width = 4 * TILE_W + 3 * GAP
    rows_height = ROWS * (tile_h + GAP)
    body = max(rows_height + 40, 2 * (MAP_SIZE + 34))
    numbers_top = top + 34 + body + 16
    sheet = Image.new("RGB", (2 * MARGIN + left_width + 36 + MAP_SIZE, numbers_top + 118), PAPER)
    draw = ImageDraw.Draw(sheet)

    draw_heading(draw, caption, sheet.width)
    draw_frames(sheet, draw, comparison, (MARGIN, top), tile_h)
    draw_legends(sheet, draw, comparison, (MARGIN, top + 34 + rows_height + 4))
    draw_maps(sheet, draw, comparison, (MARGIN + left_width + 36, top))
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
    sheet: Image.Image, draw: ImageDraw.ImageDraw, comparison: Comparison, corner: tuple[int, int], tile_h: int
) -> None:
    """Evenly chosen frames, one a row: colour, true depth, estimated depth, confidence."""
    left, top = corner
    truth, estimate = comparison.truth, comparison.estimate
    near, far = depth_range(truth.depth)
    low, high = confidence_range(comparison.confidence)
    columns = ("camera image", "true depth", "estimated depth", "confidence")
    for column, name in enumerate(columns):
        draw.text((left + column * (TILE_W + GAP) + TILE_W / 2, top + 14), name, INK, font(18), anchor="mm")
    for row, i in enumerate(np.linspace(0, len(truth.depth) - 1, ROWS).round().astype(int)):
        tiles = (
            truth.colour[i],
            colorize_depth(truth.depth[i], near, far),
            colorize_depth(estimate.depth[i], near, far),
            colorize_confidence(comparison.confidence[i], low, high),
        )
        y = top + 34 + row * (tile_h + GAP)
        for column, tile in enumerate(tiles):
            resized = cv2.resize(tile, (TILE_W, tile_h), interpolation=cv2.INTER_AREA)
            sheet.paste(Image.fromarray(resized), (left + column * (TILE_W + GAP), y))
        seconds = f"{comparison.seconds[i]:.1f} s"
        draw.rounded_rectangle((left + 6, y + 6, left + 6 + 12 * len(seconds), y + 30), 5, (0, 0, 0))
        draw.text((left + 6 + 6 * len(seconds), y + 18), seconds, PAPER, font(16), anchor="mm")


def draw_legends(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, comparison: Comparison, corner: tuple[int, int]
) -> None:
    """What the colours of the depth and confidence columns mean."""
    left, top = corner
    near, far = depth_range(comparison.truth.depth)
    low, high = confidence_range(comparison.confidence)
    depth_bar = colorize_depth(1.0 / np.linspace(1 / near, 1 / far, 2 * TILE_W + GAP)[None], near, far)
    confidence_bar = colorize_confidence(np.linspace(low, high, TILE_W)[None], low, high)
    bars = (
        (1, depth_bar, f"near: {near:.1f} m", f"far: {far:.1f} m"),
        (3, confidence_bar, f"{low:.2f}", f"{high:.2f}"),
    )
    for column, bar, first, last in bars:
        x = left + column * (TILE_W + GAP)
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


def draw_maps(sheet: Image.Image, draw: ImageDraw.ImageDraw, comparison: Comparison, corner: tuple[int, int]) -> None:
    """The room from above, once from the true depth and poses, once from the estimated ones, on the same grid."""
    left, top = corner
    view = TopView.around(comparison.truth)
    paths = {
        "truth, from above": (comparison.truth, ((comparison.truth, TRUTH),)),
        "estimate, from above": (comparison.estimate, ((comparison.truth, TRUTH), (comparison.estimate, ESTIMATE))),
    }
    for panel, (name, (cloud, trajectories)) in enumerate(paths.items()):
        y = top + panel * (MAP_SIZE + 48)
        draw.text((left + MAP_SIZE / 2, y + 14), name, INK, font(18), anchor="mm")
        sheet.paste(view.draw(cloud, trajectories), (left, y + 34))
        draw.rectangle((left, y + 34, left + MAP_SIZE - 1, y + 33 + MAP_SIZE), outline=LINE)
    x = left + 14
    for name, colour in (("true path", TRUTH), ("estimated path", ESTIMATE)):
        y = top + (MAP_SIZE + 48) + 34 + MAP_SIZE - 20
        draw.rounded_rectangle((x - 6, y - 12, x + 40 + 8 * len(name), y + 12), 6, PAPER)
        draw.line((x, y, x + 22, y), colour, 4)
        draw.text((x + 30, y), name, INK, font(15), anchor="lm")
        x += 66 + 8 * len(name)


@dataclass(frozen=True)
class TopView:
    """A square window on the floor plan: its centre in metres and its scale."""

    centre: np.ndarray
    pixels_per_m: float

    @classmethod
    def around(cls, scene: Scene) -> "TopView":
        """The window that holds the cloud of `scene`, walls and all, and its path."""
        points, _ = scene.points()
        centres = scene.camera_to_world[:, :2, 3]
        low, high = np.percentile(points[:, :2], (0.5, 99.5), axis=0)
        low, high = np.minimum(low, centres.min(axis=0)), np.maximum(high, centres.max(axis=0))
        return cls((low + high) / 2, MAP_SIZE / (1.2 * float((high - low).max())))

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """`(P, 2)` pixels, x right and y up on the plan, of `(P, 3)` metres."""
        offset = (points[:, :2] - self.centre) * self.pixels_per_m
        return offset * (1, -1) + MAP_SIZE / 2

    def draw(self, cloud: Scene, trajectories: Sequence[tuple[Scene, tuple[int, int, int]]]) -> Image.Image:
        canvas = np.full((MAP_SIZE, MAP_SIZE, 3), 247, np.uint8)
        points, colours = cloud.points()
        below_eyes = points[:, 2] < np.median(cloud.camera_to_world[:, 2, 3]) + 0.5
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
        """A scale of one metre in the corner."""
        length, y = 2 * self.pixels_per_m, 36
        draw.rounded_rectangle((20, 14, 20 + length + 100, 58), 12, PAPER)
        draw.line((36, y, 36 + length, y), INK, 5)
        draw.text((48 + length, y), "1 m", INK, font(30), anchor="lm")

    def _path(self, draw: ImageDraw.ImageDraw, scene: Scene, colour: tuple[int, int, int]) -> None:
        """The camera centres, and the first and last field of view."""
        centres = 2 * self.pixels(scene.camera_to_world[:, :3, 3])
        draw.line([tuple(p) for p in centres], PAPER, 12, joint="curve")
        draw.line([tuple(p) for p in centres], colour, 7, joint="curve")
        for i in (0, -1):
            corners = 2 * self.pixels(scene.view_corners(i, reach_m=0.45))
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
