# SPDX-License-Identifier: Apache-2.0
"""How long a person waits before anything happens: importing the library, asking the command for help.

`python benchmarks/startup.py [--out FILE.json]` prints a table of medians of fresh processes and writes JSON.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import report

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
    arguments = report.arguments(__doc__, repeats=7)
    measured = {name: seconds(command, arguments.repeats) for name, (command, _) in COMMANDS.items()}
    print(f"| fresh process | seconds, median of {arguments.repeats} | budget |\n|---|---|---|")
    for name, (_, budget_s) in COMMANDS.items():
        print(f"| {name} | {measured[name]:.3f} | {'' if budget_s is None else budget_s} |")
    budget_s = {name: budget for name, (_, budget) in COMMANDS.items() if budget is not None}
    report.publish("startup", arguments.out, seconds=measured, budget_seconds=budget_s)


if __name__ == "__main__":
    main()
