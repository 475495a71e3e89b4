# SPDX-License-Identifier: Apache-2.0
"""The same weights and images through the official package and through this one, pair by pair, against the aims.

`python benchmarks/compare_official.py PYTHON [--engine E] [--precision P] [--rows small-1,small-4] [--repeats 3]`

PYTHON is the interpreter of an environment of its own in which the package `depth-anything-3` is installed; it is
run, never imported here. Both sides keep a process; runs take turns, A B A B, with as many threads each. `API` is
`inference` of uint8 images of 504x378; `bare` is the network alone in float32. Streaming is one new frame in a window
of eight, which the official package infers as a whole. Aims are for two quiet cores; a loaded machine moves even
ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import report

SIZE_HW = (378, 504)
WORKER = Path(__file__).with_name("compare_worker.py")


@dataclass(frozen=True)
class Row:
    """One comparison and its aims, as ratios of ours to theirs; None where there is none."""

    name: str
    preset: str
    task: str
    views: int
    api: float | None = None
    bare: float | None = None
    memory: float | None = None


ROWS = (
    Row("small-1", "da3-small", "views", 1, 0.16, 0.40),
    Row("small-4", "da3-small", "views", 4, 0.18, 0.47),
    Row("small-8", "da3-small", "views", 8, 0.22, 0.50, 0.45),
    Row("base-4", "da3-base", "views", 4, 0.18, 0.50),
    Row("large-4", "da3-large", "views", 4, 0.18, 0.50, 0.67),
    Row("metric-1", "da3metric-large", "views", 1),
    Row("stream-8", "da3-small", "stream", 8, 0.15, 0.36),
    Row("ray-pose-2", "da3-small", "rays", 2, 0.12),
    Row("export-glb-2", "da3-small", "export", 2),
)


class Side:
    """A process that loads a model once and does what it is told."""

    def __init__(self, python: str, who: str, folder: Path, row: Row, arguments: argparse.Namespace) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        if who == "official":
            environment.pop("PYTHONPATH", None)  # nothing of this checkout
        self._process = subprocess.Popen(
            [python, str(WORKER), who, str(folder), row.task, str(row.views), arguments.engine, arguments.precision],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if arguments.verbose else subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.started = self._answer()

    def ask(self, kind: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # the official package prints too
            if line.startswith("answer "):
                answer: dict[str, Any] = json.loads(line.removeprefix("answer "))
                return answer
        raise RuntimeError("the process ended: run with --verbose to see why")


def compare(row: Row, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds, memory and ratios of a row."""
    sides = {
        "ours": Side(sys.executable, "ours", folder, row, arguments),
        "official": Side(arguments.python, "official", folder, row, arguments),
    }
    found: dict[str, Any] = {"row": asdict(row)}
    for kind in ("api", "bare") if row.task in ("views", "stream") else ("api",):
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(arguments.repeats + 1):
            for name, side in sides.items():
                answer = side.ask(kind)
                if "seconds" not in answer:
                    found[f"{kind}_{name}_failed"] = answer["error"]
                elif turn:
                    seconds[name].append(answer["seconds"])
        if all(seconds.values()):
            medians = {name: statistics.median(values) for name, values in seconds.items()}
            found[kind] = {**medians, "ratio": medians["ours"] / medians["official"]}
    memory = {name: side.ask("memory")["peak_mb"] for name, side in sides.items()}
    found["memory"] = {**memory, "ratio": memory["ours"] / memory["official"]}
    start = {name: side.started["seconds"] for name, side in sides.items()}
    found["start"] = {**start, "ratio": start["ours"] / start["official"]}
    found["engine"] = sides["ours"].ask("engine")["engine"]
    for side in sides.values():
        side.close()
    return found


def cells(found: dict[str, Any], kind: str, unit: str) -> str:
    if kind not in found:
        return "–"
    value, aim = found[kind], found["row"].get(kind)
    verdict = "" if aim is None else f", aim {aim:.2f} {'met' if value['ratio'] <= aim else '**missed**'}"
    return f"{value['ours']:.2f} / {value['official']:.2f} {unit} = {value['ratio']:.2f}{verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="interpreter of the environment of the official package")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--verbose", action="store_true", help="show what both sides say on stderr")
    parser.add_argument("--out", type=Path, help="write the JSON here instead of after the table")
    arguments = parser.parse_args()

    from da3_core.api import DepthAnything3

    names = arguments.rows.split(",")
    results = []
    print(f"engine {arguments.engine}, {arguments.precision}, ours / official, medians of {arguments.repeats}\n")
    print("| row | API | bare float32 network | peak memory | start | by |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for row in (row for row in ROWS if row.name in names):
            weights = Path(folder, row.preset)
            if not weights.is_dir():
                DepthAnything3.from_pretrained(f"untrained:{row.preset}", engine="torch").save_pretrained(weights)
            found = compare(row, arguments, weights)
            results.append(found)
            columns = [cells(found, "api", "s"), cells(found, "bare", "s"), cells(found, "memory", "MB")]
            print(
                f"| {row.name} | {' | '.join(columns)} | {cells(found, 'start', 's')} | {found['engine']} |", flush=True
            )
            for name, reason in found.items():
                if name.endswith("_failed"):
                    print(f"{row.name}: {name}: {reason}", file=sys.stderr)
    report.publish("compare_official", arguments.out, size_hw=SIZE_HW, threads=arguments.threads, rows=results)


if __name__ == "__main__":
    main()
