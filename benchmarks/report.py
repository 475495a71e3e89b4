# SPDX-License-Identifier: Apache-2.0
"""What all benchmarks share: their arguments, and one JSON with date, machine and versions beside the numbers."""

import argparse
import json
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "torch", "opencv-python-headless", "trimesh", "rclpy")


def arguments(description: str, repeats: int) -> argparse.Namespace:
    """`--out` and `--repeats`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="write the JSON here instead of after the table")
    parser.add_argument("--repeats", type=int, default=repeats)
    return parser.parse_args()


def publish(benchmark: str, out: Path | None, **measured: Any) -> None:
    """Write the JSON of a benchmark."""
    document = {
        "benchmark": benchmark,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **_versions()},
        **measured,
    }
    text = json.dumps(document, indent=2)
    if out:
        out.write_text(text + "\n")
    else:
        print(text)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
