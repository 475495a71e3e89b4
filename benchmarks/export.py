# SPDX-License-Identifier: Apache-2.0
"""How long each export format takes for 8 views of 504x378, and a frame of 100 000 Gaussians rendered at 320x240.

`python benchmarks/export.py [--out FILE.json]` prints a table of medians and writes JSON. The views are those of the
synthetic room, with the noise of a network's depth; `gs_video` is measured per frame. Where processor time is much less
than elapsed time, the machine was busy with something else.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import report
import torch

from da3_core.export import EXPORTERS, export
from da3_core.geometry.backprojection import backproject
from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Gaussians, Prediction
from da3_core.render import render
from da3_core.synthetic import room_walk

VIEWS, HEIGHT, WIDTH = 8, 378, 504
RENDERED, FRAME = 100_000, (240, 320)
BUDGET_S = {"glb": 1.0, "colmap": 2.0, "mini_npz": 1.0, "rendered frame": 1.0}


def scene() -> Prediction:
    random = np.random.default_rng(0)
    walk = room_walk(frames=60, size=(HEIGHT, WIDTH))
    shape = (VIEWS, HEIGHT, WIDTH)
    depth = walk.depth_m[:VIEWS] * (1 + 0.003 * random.standard_normal(shape, dtype=np.float32))
    extrinsics = invert_rigid(walk.camera_to_world[:VIEWS]).astype(np.float32)
    intrinsics = np.tile(walk.intrinsics.astype(np.float32), (VIEWS, 1, 1))
    images = walk.images[:VIEWS]
    points = backproject(depth, intrinsics, extrinsics)
    return Prediction(
        depth=depth,
        is_metric=1,
        conf=1 + 5 * random.random(shape, dtype=np.float32) / depth,
        extrinsics=extrinsics,
        intrinsics=intrinsics,
        processed_images=images,
        gaussians=_splats(points.reshape(-1, 3), (depth / intrinsics[0, 0, 0]).ravel(), images.reshape(-1, 3)),
        aux={"feat_layer_5": random.standard_normal((VIEWS, HEIGHT // 14, WIDTH // 14, 384), dtype=np.float32)},
        original_sizes=np.tile([1200, 1600], (VIEWS, 1)),
        processed_from_original=np.tile(np.diag([WIDTH / 1600, HEIGHT / 1200, 1.0]), (VIEWS, 1, 1)),
        image_names=tuple(f"image_{view}.jpg" for view in range(VIEWS)),
    )


def _splats(points: np.ndarray, sigma: np.ndarray, colors: np.ndarray) -> Gaussians:
    harmonics = np.zeros((len(points), 3, 9), np.float32)
    harmonics[:, :, 0] = (colors / 255 - 0.5) / 0.28209479
    fields = (
        points,
        np.repeat(sigma[:, None], 3, 1),
        np.tile([1, 0, 0, 0], (len(points), 1)),
        harmonics,
        sigma * 0 + 0.9,
    )
    return Gaussians(*(torch.tensor(field[None], dtype=torch.float32) for field in fields))


def _render_one(prediction: Prediction) -> Callable[[], object]:
    """Renders Gaussians of the first view, as large as their spacing in the smaller image demands."""
    assert prediction.gaussians is not None
    assert prediction.extrinsics is not None
    assert prediction.intrinsics is not None
    chosen = torch.linspace(0, HEIGHT * WIDTH - 1, RENDERED).long()
    fields = {name: tensor[:, chosen] for name, tensor in vars(prediction.gaussians).items()}
    smaller = np.diag([FRAME[1] / WIDTH, FRAME[0] / HEIGHT, 1]) @ prediction.intrinsics[:1]
    gaussians = replace(prediction.gaussians, **fields)
    return lambda: list(render(gaussians, prediction.extrinsics[:1], smaller, FRAME))


def seconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Medians of elapsed and processor time, after one run that imports what is needed."""
    elapsed, processor = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter(), time.process_time()
        work()
        elapsed.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    return statistics.median(elapsed[1:]), statistics.median(processor[1:])


def measure(repeats: int) -> dict[str, tuple[float, float]]:
    prediction = scene()
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in EXPORTERS:
            if name != "gs_video":
                measured[name] = seconds(lambda name=name: export(prediction, folder, name), repeats)
    measured["rendered frame"] = seconds(_render_one(prediction), repeats)
    return measured


def main() -> None:
    arguments = report.arguments(__doc__, repeats=5)
    measured = measure(arguments.repeats)
    print(f"| format | seconds, median of {arguments.repeats} | of a processor | budget |\n|---|---|---|---|")
    for name, (elapsed, processor) in measured.items():
        print(f"| {name} | {elapsed:.3f} | {processor:.3f} | {BUDGET_S.get(name, '')} |")
    report.publish(
        "export",
        arguments.out,
        seconds={name: elapsed for name, (elapsed, _) in measured.items()},
        processor_seconds={name: processor for name, (_, processor) in measured.items()},
        budget_seconds=BUDGET_S,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
