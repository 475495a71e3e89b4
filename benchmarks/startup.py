# SPDX-License-Identifier: Apache-2.0
"""How long a person waits before anything happens: importing the library, asking the command for help.

`python benchmarks/startup.py [--out FILE.json]` prints a table of medians of fresh processes and writes JSON.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "python alone": (["-c", "pass"], None),
    "import da3_core": (["-c", "import da3_core"], 0.3),
    "da3 --help": (["-m", "da3_core.cli", "--help"], 0.5),
    "da3 auto --help": (["-m", "da3_core.cli", "auto", "--help"], 0.5),
}


def seconds(arguments: list[str], repeats: int) -> float:
    """Median wall time of a fresh process, after one that fills the caches of the disk."""
    durations = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the JSON here instead of after the table")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()

    measured = {name: seconds(command, arguments.repeats) for name, (command, _) in COMMANDS.items()}
    print(f"| fresh process | seconds, median of {arguments.repeats} | budget |\n|---|---|---|")
    for name, (_, budget_s) in COMMANDS.items():
        print(f"| {name} | {measured[name]:.3f} | {'' if budget_s is None else budget_s} |")
    report = json.dumps(
        {
            "benchmark": "startup",
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
            "versions": {"python": platform.python_version()},
            "seconds": measured,
            "budget_seconds": {name: budget_s for name, (_, budget_s) in COMMANDS.items() if budget_s is not None},
        },
        indent=2,
    )
    if arguments.out:
        arguments.out.write_text(report + "\n")
    else:
        print(report)


if __name__ == "__main__":
    main()
