# SPDX-License-Identifier: Apache-2.0
"""Workers against a single process: what Ray costs, what two workers bring, the driver's memory, and the constants from
which docs/scale.md reckons large clusters.

`python benchmarks/scale.py [--out FILE.json]` prints tables and writes JSON; it wants two cores for itself, some five
minutes. A part that fails is told, and the others go on.
`python benchmarks/scale.py --images N FOLDER` only writes images of a synthetic room.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import report

from da3_core.synthetic import Walk, room_walk

ROOT = Path(__file__).parents[1]
WINDOW = 4
WALK = 120  # frames once around the room, so close that features of neighbours match
CONSTANTS_OF = 48  # frames
TIMEOUT_S = 600
LENGTHS = (60, 600)  # frames of bags
MODEL = ("--model", "embedded", "--engine", "torch", "--precision", "float32", "--device", "cpu")
LIGHT = ("--model", "untrained:da3-small", "--engine", "torch", "--device", "cpu", "--process-res", "56")
INFERENCE = re.compile(r"inference: \d+ views in ([\d.]+) s")
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
RUN = """
import sys
from pathlib import Path
from da3_core.cli import main
try:
    main()
finally:  # not ru_maxrss, which begins with what the parent had
    [peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(peak, file=sys.stderr)
"""


class Failed(Exception):
    """A command did not do what is measured."""


def walk(frames: int) -> Walk:
    """Frames of 240x320 pixels; more than `WALK` go around the room again."""
    once = room_walk(frames=WALK, size=(240, 320))
    chosen = np.arange(frames) % WALK
    return replace(
        once,
        images=once.images[chosen],
        depth_m=once.depth_m[chosen],
        camera_to_world=once.camera_to_world[chosen],
    )


def write_images(folder: Path, count: int) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(walk(count).images):
        Image.fromarray(image).save(folder / f"{i:06d}.png")


def da3(*arguments: Any) -> tuple[str, str]:
    """stdout and stderr of a command whose process has one thread."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as expired:
        raise Failed(f"da3 {arguments[0]} took more than {TIMEOUT_S} s") from expired
    if done.returncode:
        raise Failed(f"da3 {arguments[0]} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout, done.stderr


def peak_mb(stderr: str) -> float:
    found = PEAK.search(stderr)
    assert found
    return int(found[1]) / 1e3


def speed(images: Path, folder: Path, workers: int | None) -> dict[str, float]:
    """Of all windows, without the start of processes and the export."""
    chosen = () if workers is None else ("--workers", workers)
    output = ("--export-dir", folder / f"{workers}", "--export-format", "npz", "--json")
    stdout, stderr = da3("images", images, *MODEL, "--max-views-per-window", WINDOW, *output, *chosen)
    windows = json.loads(stdout)["windows"]
    found = INFERENCE.search(stderr)
    assert found
    return {
        "workers": workers or 0,
        "windows": len(windows),
        "seconds": float(found[1]),
        "busy_seconds": sum(each["seconds"] for each in windows),
        "peak_mb": peak_mb(stderr),
    }


def driver_memory(folder: Path, frames: int) -> dict[str, float]:
    """Peak of the process that reads, places and writes a bag."""
    from da3_core.synthetic.bag import write_bag

    bag = write_bag(walk(frames), folder / f"in{frames}")
    output = ("--output-bag", folder / f"out{frames}", "--no-window-messages", "--window", "2")
    start = time.perf_counter()
    _, stderr = da3("bag", bag, *LIGHT, *output, "--workers", "2")
    return {"frames": frames, "peak_mb": peak_mb(stderr), "seconds": time.perf_counter() - start}


def constants() -> dict[str, float]:
    """Of a window of 8 views of 504x378 pixels, with a stand-in for the network: what travels, and what the driver does
    with it, in processor seconds."""
    from da3_core.options import InferenceOptions
    from da3_core.stream.joined_windows import join_windows, split_windows
    from da3_core.stream.prediction_file import from_bytes, to_bytes
    from da3_core.synthetic.exact import ExactModel

    frames = walk(CONSTANTS_OF)
    model, options = ExactModel(frames), InferenceOptions(process_res=504)
    windows = split_windows(len(frames), 8, 4)
    answers = [to_bytes(model.predict(list(frames.images[window]), options)) for window in windows]
    start = time.process_time()
    predictions = [from_bytes(answer) for answer in answers]
    read = time.process_time() - start
    join_windows(windows, predictions, same_world=False)
    return {
        "answer_bytes_per_pixel": len(answers[0]) / predictions[0].depth.size,
        "read_seconds_per_window": read / len(windows),
        "join_seconds_per_window": (time.process_time() - start - read) / len(windows),
        "windows": len(windows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", type=Path, help="write the JSON here instead of after the table")
    parser.add_argument("--views", type=int, default=40, help="images whose windows are timed")
    parser.add_argument("--frames", type=int, nargs=2, default=LENGTHS, help="lengths of bags")
    parser.add_argument("--images", nargs=2, metavar=("N", "FOLDER"), help="only write images of a synthetic room")
    chosen = parser.parse_args()
    if chosen.images:
        write_images(Path(chosen.images[1]), int(chosen.images[0]))
        return
    failures: list[str] = []

    def table(head: str, parts: Mapping[str, Callable[[], dict[str, float]]]) -> list[dict[str, float]]:
        """A row for each part that does not fail, printed as soon as it is there."""
        print(f"\n{head}\n|{'---|' * (head.count('|') - 1)}", flush=True)
        rows: list[dict[str, float]] = []
        for name, part in parts.items():
            try:
                rows.append(part())
            except Failed as failure:
                failures.append(name)
                print(f"{name}: {failure}", file=sys.stderr)
            else:
                print(f"| {' | '.join(f'{value:.4g}' for value in rows[-1].values())} |", flush=True)
        return rows

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images", chosen.views)
        speeds = table(
            "| workers | windows | seconds | busy, s | peak of the driver, MB |",
            {
                f"{workers or 'no'} workers": partial(speed, folder / "images", folder, workers)
                for workers in (None, 1, 2)
            },
        )
        of_workers = {row["workers"]: row["seconds"] for row in speeds}
        for workers in (1, 2):
            if {0, workers} <= of_workers.keys():
                ratio = of_workers[0] / of_workers[workers]
                print(f"workers: {workers}, {ratio:.2f} times as fast as one process", flush=True)
        measured = constants()
        print("\n| constant | value |\n|---|---|")
        for key, value in measured.items():
            print(f"| {key.replace('_', ' ')} | {value:.4g} |", flush=True)
        memory = table(
            "| frames of a bag | peak of the driver, MB | seconds |",
            {f"a bag of {frames}": partial(driver_memory, folder, frames) for frames in chosen.frames},
        )
    report.publish("scale", chosen.out, speed=speeds, driver=memory, constants=measured)
    if failures:
        raise SystemExit(f"failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
