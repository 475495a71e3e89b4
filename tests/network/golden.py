# SPDX-License-Identifier: Apache-2.0
"""Golden data of the official network: the weights and images it was run on, made again from their rule, and the
results it gave.

Every tensor has a random generator of its own, seeded by its name, so any part of a network can be filled alone.
"""

import gzip
import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads((DATA / "golden" / "cases.json").read_text())

NORM = re.compile(r"(norm|norm1|norm2|q_norm|k_norm|token_norm|trunk_norm|output_conv2_aux\.\d\.2)\.(weight|bias)$")
GAINS = {
    r"cam_dec\.backbone\.\d\.weight$": 1.4,
    r"cam_dec\.fc_t\.weight$": 0.5,
    r"cam_dec\.fc_qvec\.weight$": 0.3,
    r"cam_dec\.fc_fov\.0\.weight$": 0.15,
    r"scratch\.layer\d_rn\.weight$": 0.7,
    r"images_merger\.\d\.weight$": 1.4,
    r"output_conv2\.0\.weight$": 1.4,  # the sky head's, too
    r"output_conv2_aux\.\d\.0\.weight$": 1.4,
    r"gs_head\.scratch\.output_conv2\.2\.weight$": 0.5,
    r"sky_output_conv2\.2\.weight$": 0.7,
    r"output_conv2\.2\.weight$": 0.6,
    r"output_conv2_aux\.\d\.5\.weight$": 0.5,
}
SHIFTED = {  # biases: which entries, by how much
    r"cam_dec\.fc_fov\.0\.bias$": (slice(None), 1),
    r"cam_dec\.fc_qvec\.bias$": (3, 1),
    r"sky_output_conv2\.2\.bias$": (slice(None), -1),
    r"output_conv2_aux\.\d\.5\.bias$": (2, 1),
}


def golden_tensor(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights called `name`, float32."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
    if re.search(r"ls\d\.gamma$", name):
        return np.float32(0.1) + np.float32(0.5) * generator.random(shape, dtype=np.float32)
    values = generator.standard_normal(shape, dtype=np.float32)
    if name.endswith(("cls_token", "camera_token")):
        return values
    if name.endswith("pos_embed"):
        return np.float32(0.5) * values
    if NORM.search(name):
        return np.float32(0.05) * values if name.endswith("bias") else np.float32(1) + np.float32(0.1) * values
    if name.endswith("bias"):
        values *= np.float32(0.02)
        for pattern, (entries, shift) in SHIFTED.items():
            if re.search(pattern, name):
                values[entries] += np.float32(shift)
        return values
    fan_in = shape[0] if re.search(r"resize_layers\.[01]\.weight$", name) else int(np.prod(shape[1:]))
    gain = next((gain for pattern, gain in GAINS.items() if re.search(pattern, name)), 1.0)
    values *= np.float32(gain / np.sqrt(fan_in))
    if name.endswith("sky_output_conv2.2.weight"):
        values -= values.mean(dtype=np.float64).astype(np.float32)
    return values


@torch.no_grad()
def fill_with_golden(module: nn.Module, seed: int) -> None:
    """Golden weights for a module that holds the network as `model`. A shared tensor goes by its first name."""
    parameters: dict[int, tuple[str, Tensor]] = {}
    for name, parameter in sorted(module.state_dict(keep_vars=True).items()):
        parameters.setdefault(id(parameter), (name, parameter))

    def fill(named: tuple[str, Tensor]) -> None:
        with torch.no_grad():
            named[1].copy_(torch.from_numpy(golden_tensor(seed, named[0], tuple(named[1].shape))))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, parameters.values()))


def golden_images(seed: int, views: int, height: int, width: int) -> np.ndarray:
    """Overlapping crops (views, height, width, 3) uint8 of one canvas of soft blobs, with noise; all integers."""
    cell, step_y, step_x = 28, 5, 9
    generator = np.random.Generator(np.random.PCG64(10_000 + seed))
    rows, columns = height + step_y * views, width + step_x * views
    corners = generator.integers(0, 256, (rows // cell + 2, columns // cell + 2, 3), dtype=np.int64)
    (y, dy), (x, dx) = divmod(np.arange(rows), cell), divmod(np.arange(columns), cell)
    dy, dx = dy[:, None, None], dx[None, :, None]
    top = (cell - dx) * corners[y][:, x] + dx * corners[y][:, x + 1]
    bottom = (cell - dx) * corners[y + 1][:, x] + dx * corners[y + 1][:, x + 1]
    canvas = ((cell - dy) * top + dy * bottom) // cell**2
    images = []
    for v in range(views):
        crop = canvas[v * step_y : v * step_y + height, v * step_x : v * step_x + width]
        gain, bias = int(generator.integers(70, 101)), int(generator.integers(-12, 13))
        noise = generator.integers(-14, 15, (height, width, 3), dtype=np.int64)
        images.append(np.clip(crop * gain // 100 + bias + noise, 0, 255).astype(np.uint8))
    return np.stack(images)


def normalise(images: np.ndarray) -> Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float32 as networks take them."""
    mean, std = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
    return torch.from_numpy((images.astype(np.float32) / np.float32(255) - mean) / std).movedim(-1, -3).contiguous()


@dataclass(frozen=True)
class GoldenCase:
    """One run of the official network: how it was called, on what, and what came out."""

    name: str

    @property
    def preset(self) -> str:
        return str(CASES[self.name]["preset"])

    @property
    def seed(self) -> int:
        return int(CASES[self.name]["weights_seed"])

    @property
    def options(self) -> dict[str, object]:
        return {key: value for key, value in CASES[self.name]["forward"].items() if key != "torch_seed"}

    def images(self) -> np.ndarray:
        """(B, N, H, W, 3) uint8."""
        case = CASES[self.name]
        size = (case["views"], case["height"], case["width"])
        images = np.stack([golden_images(seed, *size) for seed in case["image_seeds"]])
        assert hashlib.sha256(images.tobytes()).hexdigest() == case["images_sha256"]
        return images

    def arrays(self) -> dict[str, np.ndarray]:
        """Expected arrays by name, and `<name>__step` for those of which only some entries are kept."""
        return dict(np.load(DATA / "golden" / f"{self.name}.npz"))


def golden_unit(name: str) -> dict[str, Tensor]:
    """Inputs and results of one function of the official network."""
    return {key: torch.from_numpy(value) for key, value in np.load(DATA / "golden" / f"unit_{name}.npz").items()}


def deviation(found: Tensor | np.ndarray | float, expected: Tensor | np.ndarray) -> float:
    """Largest difference as a share of the largest expected value."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def manifests() -> list[str]:
    """Presets whose official checkpoint is known tensor by tensor."""
    return sorted(path.name.removesuffix(".tsv.gz") for path in (DATA / "manifest").iterdir())


def manifest(preset: str) -> dict[str, tuple[tuple[int, ...], str | None]]:
    """Every tensor name of an official checkpoint: its shape, and the stored name it is an alias of."""
    rows = gzip.decompress((DATA / "manifest" / f"{preset}.tsv.gz").read_bytes()).decode().splitlines()
    fields = (row.split("\t") for row in rows if not row.startswith("#"))
    return {
        name: (tuple(int(side) for side in shape.split("x")), kind.removeprefix("alias:") if ":" in kind else None)
        for name, shape, _, kind in fields
    }
