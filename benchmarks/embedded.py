# SPDX-License-Identifier: Apache-2.0
"""How fast the embedded model is: images per second from pixels to depth, one view at a time.

`python benchmarks/embedded.py [--out FILE.json]`: float32, two threads, medians; the sizes take turns. Weights do not
matter for speed, so they are random.
"""

import statistics
import time

import numpy as np
import report
import torch

from da3_core import DepthAnything3

THREADS = 2
TARGETS = {(168, 224): 10, (224, 308): 5}  # images per second by size


def main() -> None:
    arguments = report.arguments(__doc__, repeats=11)
    torch.set_num_threads(THREADS)
    model = DepthAnything3.from_pretrained("untrained:embedded", precision="float32")
    random = np.random.default_rng(0)
    images = {size: random.integers(0, 256, (*size, 3), np.uint8) for size in TARGETS}
    seconds: dict[tuple[int, int], list[float]] = {size: [] for size in TARGETS}
    for turn in range(arguments.repeats + 1):
        for size, image in images.items():
            start = time.perf_counter()
            model.inference([image], process_res=max(size))
            if turn:
                seconds[size].append(time.perf_counter() - start)

    rows = []
    print(f"| image | images/s, median of {arguments.repeats} | target |\n|---|---|---|")
    for size, target in TARGETS.items():
        rate = 1 / statistics.median(seconds[size])
        print(f"| {size[1]}x{size[0]} | {rate:.1f} | {target} |")
        rows.append({"size_hw": size, "images_per_s": rate, "target": target})
    report.publish("embedded", arguments.out, threads=THREADS, rows=rows)


if __name__ == "__main__":
    main()
