# SPDX-License-Identifier: Apache-2.0
"""How fast the embedded model is: images per second from pixels to depth, one view at a time.

`python benchmarks/embedded.py [--out FILE.json]`: two threads, medians; sizes, engines and number formats take turns.
Weights do not matter for speed, so they are random.
"""

import statistics
import time

import numpy as np
import report
import torch

from da3_core import DepthAnything3
from da3_core.engines import is_installed
from da3_core.network.config import Size
from da3_core.options import Engine, Precision

THREADS = 2
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
TARGETS = {(168, 224): 25, (224, 308): 5}  # images per second by size, by the fastest


def main() -> None:
    arguments = report.arguments(__doc__, repeats=11)
    torch.set_num_threads(THREADS)
    engines: list[Engine] = ["torch", "openvino"] if is_installed("openvino") else ["torch"]
    models = {
        (engine, precision): DepthAnything3.from_pretrained("untrained:embedded", precision=precision, engine=engine)
        for engine in engines
        for precision in PRECISIONS
    }
    random = np.random.default_rng(0)
    images = {size: random.integers(0, 256, (*size, 3), np.uint8) for size in TARGETS}
    seconds: dict[tuple[Size, tuple[Engine, Precision]], list[float]] = {
        (size, by): [] for size in TARGETS for by in models
    }
    for turn in range(arguments.repeats + 1):
        for size, by in seconds:
            start = time.perf_counter()
            models[by].inference([images[size]], process_res=max(size))
            if turn:
                seconds[size, by].append(time.perf_counter() - start)

    rows = []
    print(f"| image | by | images/s, median of {arguments.repeats} | target |\n|---|---|---|---|")
    for (size, by), durations in seconds.items():
        rate = 1 / statistics.median(durations)
        print(f"| {size[1]}x{size[0]} | {' '.join(by)} | {rate:.1f} | {TARGETS[size]} |")
        rows.append({"size_hw": size, "by": by, "images_per_s": rate, "target": TARGETS[size]})
    report.publish("embedded", arguments.out, threads=THREADS, rows=rows)


if __name__ == "__main__":
    main()
