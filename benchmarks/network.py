# SPDX-License-Identifier: Apache-2.0
"""What the network costs: seconds and peak memory by preset and number of views, and what single ingredients are worth.

`python benchmarks/network.py [--out FILE.json]`: 504x378 images, float32, as many threads as cores, medians. Every row
runs in a process of its own, so that the peak of memory is its own. The variants of a ratio take turns in one process.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import report
import torch

SIZE_HW = (378, 504)
ROWS = [("da3-small", 1), ("da3-small", 4), ("da3-small", 8), ("da3-base", 1), ("da3-base", 4)]


def medians_s(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Wall seconds of variants that take turns, so that a slow moment of the machine hits all of them."""
    durations: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if turn:
                durations[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in durations.items()}


def measure_row(preset: str, views: int, repeats: int) -> dict[str, float]:
    """In this process."""
    from da3_core.api import DepthAnything3

    model = DepthAnything3.from_pretrained(f"untrained:{preset}")
    images = torch.randn(1, views, 3, *SIZE_HW, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seconds = medians_s(
            {
                "plain": lambda: model(images),
                "with rays": lambda: model.model(images, export_rays=True),
            },
            repeats,
        )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds["plain"],
        "with_rays_over_plain": seconds["with rays"] / seconds["plain"],
        "peak_mb": peak_mb,
    }


def main() -> None:
    if len(sys.argv) == 5 and sys.argv[1] == "row":
        print(json.dumps(measure_row(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
        return
    arguments = report.arguments(__doc__, repeats=3)
    rows = []
    print(f"| preset | views | seconds, median of {arguments.repeats} | with rays / plain | peak memory, MB |")
    print("|---|---|---|---|---|")
    for preset, views in ROWS:
        command = [sys.executable, __file__, "row", preset, str(views), str(arguments.repeats)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"| {preset} | {views} | {row['seconds']:.2f} | {row['with_rays_over_plain']:.2f} | {row['peak_mb']:.0f} |"
        )
        rows.append({"preset": preset, "views": views, **row})
    report.publish("network", arguments.out, size_hw=SIZE_HW, threads=torch.get_num_threads(), rows=rows)


if __name__ == "__main__":
    main()
