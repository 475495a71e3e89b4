# SPDX-License-Identifier: Apache-2.0
"""Peak memory of processing a bag against its length: 640x480 images, everything copied, all outputs written.

`python benchmarks/bag_memory.py [--out FILE.json] [FRAMES...]` prints a table and writes JSON. The model is a stand-in
that answers at once, so that what is measured is what reads, cuts, aligns and writes. Each length is a process of its
own, and what it wrote is removed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import report

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "tests/bag/bag_memory.py"
LENGTHS = (200, 800)


def measure(frames: int) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(MEASURED), folder, str(frames)]
        peak = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        sizes = {name: _gigabytes(Path(folder, f"{name}{frames}")) for name in ("in", "out")}
    return {"frames": frames, "input_gb": sizes["in"], "output_gb": sizes["out"], "peak_mb": float(peak)}


def _gigabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="write the JSON here instead of after the table")
    parser.add_argument("frames", type=int, nargs="*", default=LENGTHS, help="lengths of bags")
    chosen = parser.parse_args()
    print("| frames | input, GB | output, GB | peak memory, MB |\n|---|---|---|---|")
    rows = []
    for frames in chosen.frames:
        row = measure(frames)
        rows.append(row)
        print(f"| {frames} | {row['input_gb']:.2f} | {row['output_gb']:.2f} | {row['peak_mb']:.0f} |", flush=True)
    first, last = rows[0], rows[-1]
    if last["input_gb"] > first["input_gb"]:
        slope = (last["peak_mb"] - first["peak_mb"]) / (last["input_gb"] - first["input_gb"])
        print(f"\n{slope:.1f} MB more per GB of input: {slope * 20:.0f} MB more for 20 GB")
    report.publish("bag_memory", chosen.out, bags=rows)


if __name__ == "__main__":
    main()
