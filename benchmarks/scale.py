# SPDX-License-Identifier: Apache-2.0
"""Workers against a single process: what Ray costs, what two workers bring, the driver's memory, and the constants from
which docs/scale.md reckons large clusters.

`python benchmarks/scale.py [--out FILE.json]` prints tables and writes JSON; it wants two cores for itself.
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
from pathlib import Path
from typing import Any

import report

ROOT = Path(__file__).parents[1]
WINDOW = 4
LENGTHS = (60, 600)  # frames of bags
MODEL = ("--model", "embedded", "--engine", "torch", "--precision", "float32", "--device", "cpu")
LIGHT = ("--model", "untrained:da3-small", "--engine", "torch", "--device", "cpu", "--process-res", "56")
INFERENCE = re.compile(r"inference: \d+ views in ([\d.]+) s")
PEAK = re.compile(r"peak (\d+) kB")
RUN = """
import resource, sys
from da3_core.cli import main
try:
    main()
finally:
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} kB", file=sys.stderr)
"""


def write_images(folder: Path, count: int) -> None:
    """Of 240x320 pixels, along one way through the room."""
    from PIL import Image

    from da3_core.synthetic import room_walk

    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(room_walk(frames=count, size=(240, 320)).images):
        Image.fromarray(image).save(folder / f"{i:06d}.png")


def da3(*arguments: Any) -> tuple[str, str]:
    """stdout and stderr of a command whose process has one thread."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout, done.stderr


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
    }


def driver_memory(folder: Path, frames: int) -> dict[str, float]:
    """Peak of the process that reads, places and writes a bag."""
    from da3_core.synthetic import room_walk
    from da3_core.synthetic.bag import write_bag

    bag = write_bag(room_walk(frames=frames, size=(240, 320)), folder / f"in{frames}")
    output = ("--output-bag", folder / f"out{frames}", "--no-window-messages", "--window", "2")
    _, stderr = da3("bag", bag, *LIGHT, *output, "--workers", "2")
    found = PEAK.search(stderr)
    assert found
    return {"frames": frames, "peak_mb": int(found[1]) / 1e3}


def constants() -> dict[str, float]:
    """Of a window of 8 views of 504x378 pixels, with a stand-in for the network: what travels, and what the driver does
    with it, in processor seconds."""
    from da3_core.options import InferenceOptions
    from da3_core.stream.joined_windows import join_windows, split_windows
    from da3_core.stream.prediction_file import from_bytes, to_bytes
    from da3_core.synthetic import room_walk
    from da3_core.synthetic.exact import ExactModel

    walk = room_walk(frames=48, size=(378, 504))
    model, options = ExactModel(walk), InferenceOptions(process_res=504)
    windows = split_windows(len(walk.images), 8, 4)
    answers = [to_bytes(model.predict([walk.images[i] for i in window], options)) for window in windows]
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
    parser.add_argument("--views", type=int, default=80, help="images whose windows are timed")
    parser.add_argument("--frames", type=int, nargs=2, default=LENGTHS, help="lengths of bags")
    parser.add_argument("--images", nargs=2, metavar=("N", "FOLDER"), help="only write images of a synthetic room")
    chosen = parser.parse_args()
    if chosen.images:
        write_images(Path(chosen.images[1]), int(chosen.images[0]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images", chosen.views)
        speeds = [speed(folder / "images", folder, workers) for workers in (None, 1, 2)]
        print("| workers | windows | seconds | busy, s | against one process |\n|---|---|---|---|---|")
        for row in speeds:
            ratio = speeds[0]["seconds"] / row["seconds"]
            told = f"{row['seconds']:.1f} | {row['busy_seconds']:.1f} | {ratio:.2f}"
            print(f"| {row['workers']:.0f} | {row['windows']:.0f} | {told} |", flush=True)
        measured = constants()
        print("\n| constant | value |\n|---|---|")
        for key, value in measured.items():
            print(f"| {key.replace('_', ' ')} | {value:.4g} |", flush=True)
        memory = [driver_memory(folder, frames) for frames in chosen.frames]
        print("\n| frames of a bag | peak of the driver, MB |\n|---|---|")
        for row in memory:
            print(f"| {row['frames']:.0f} | {row['peak_mb']:.0f} |", flush=True)
    report.publish("scale", chosen.out, speed=speeds, driver=memory, constants=measured)


if __name__ == "__main__":
    main()
