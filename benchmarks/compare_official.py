# SPDX-License-Identifier: Apache-2.0
"""The same weights and images through the official package and through this one, in turns, against the aims.

`python benchmarks/compare_official.py PYTHON [--write] [--engine E] [--precision P] [--rows small-1,small-4]`

PYTHON is the interpreter of an environment of its own in which the package `depth-anything-3` is installed; it is
run, never imported here. Both sides keep a process for each model; runs take turns, A B A B, with as many threads each.
`API` is `inference` of uint8 images of 504x378; `bare` is the network alone in float32. Streaming is one new frame in a
window of eight, which the official package infers as a whole. Aims are for two quiet cores; a loaded machine moves even
ratios. All rows take about ten minutes there, less once conversions are in the cache, for which `--repeats 0` provides.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import report

SIZE_HW = (378, 504)
WORKER = Path(__file__).with_name("compare_worker.py")
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- written by: python benchmarks/compare_official.py PYTHON --write -->\n", "<!-- end -->"
OFFICIAL_TASKS = {"stream": "views"}  # who keeps nothing from window to window infers a whole one


@dataclass(frozen=True)
class Row:
    """One comparison and its aims, as ratios of ours to theirs; None where there is none.

    Attributes:
        repeats: runs of each side; fewer where they take long.
        precision: of our side; None for what the command says.
        has_memory: whether the peak of the process is that of this row: no row before it takes more.
    """

    name: str
    preset: str
    task: str
    views: int
    api: float | None = None
    bare: float | None = None
    memory: float | None = None
    repeats: int = 3
    precision: str | None = None
    has_memory: bool = True

    @property
    def official(self) -> tuple[str, str, int]:
        """What the official package does beside it; rows that have the same follow each other, and share it."""
        return self.preset, OFFICIAL_TASKS.get(self.task, self.task), self.views


ROWS = (
    Row("small-1", "da3-small", "views", 1, 0.16, 0.40),
    Row("small-4", "da3-small", "views", 4, 0.18, 0.47),
    Row("small-4-bfloat16", "da3-small", "views", 4, 0.11, 0.28, precision="bfloat16", has_memory=False),
    Row("small-8", "da3-small", "views", 8, 0.22, 0.50, 0.45, repeats=2),
    Row("stream-8", "da3-small", "stream", 8, 0.15, 0.36, repeats=2, has_memory=False),
    Row("ray-pose-2", "da3-small", "rays", 2, 0.12, has_memory=False),
    Row("export-glb-2", "da3-small", "export", 2, has_memory=False),
    Row("base-4", "da3-base", "views", 4, 0.18, 0.50, repeats=2),
    Row("large-4", "da3-large", "views", 4, 0.18, 0.50, 0.67, repeats=1),
    Row("metric-1", "da3metric-large", "views", 1, repeats=1),
)


class Side:
    """A process that loads a model once and does what it is told."""

    def __init__(self, python: str, who: str, folder: Path, precision: str, arguments: argparse.Namespace) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        if who == "official":
            environment.pop("PYTHONPATH", None)  # nothing of this checkout
        self._process = subprocess.Popen(
            [python, str(WORKER), who, str(folder), arguments.engine, precision],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if arguments.verbose else subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.started = self._answer()

    def ask(self, question: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return self._answer()

    def run(self, task: str, views: int, kind: str) -> dict[str, Any]:
        return self.ask(f"{task} {views} {kind}")

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


class Sides:
    """The processes of one model, started when they are needed."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self._folder, self._arguments = folder, arguments
        self._ours: dict[str, Side] = {}
        self._official: Side | None = None

    def ours(self, row: Row) -> Side:
        precision = row.precision or self._arguments.precision
        if precision not in self._ours:
            self._ours[precision] = Side(sys.executable, "ours", self._folder, precision, self._arguments)
        return self._ours[precision]

    @property
    def official(self) -> Side:
        """Warm, by one view: its first run at a size is not much slower than the others."""
        if self._official is None:
            self._official = Side(self._arguments.python, "official", self._folder, "", self._arguments)
            for kind in ("api", "bare"):
                self._official.run("views", 1, kind)
        return self._official

    def close(self) -> None:
        for side in (*self._ours.values(), self._official):
            if side is not None:
                side.close()


def compare(rows: Sequence[Row], sides: Sides, most_repeats: int) -> list[dict[str, Any]]:
    """Seconds, memory and ratios of rows that the official package does the same beside."""
    task, views = rows[0].official[1:]
    repeats = min(most_repeats, max(row.repeats for row in rows))
    found: list[dict[str, Any]] = [{"row": asdict(row)} for row in rows]
    for kind in ("api", "bare") if task == "views" else ("api",):
        ours: list[list[float]] = [[] for _ in rows]
        theirs: list[float] = []
        for row in rows:  # converts what is not in the cache
            sides.ours(row).run(row.task, views, kind)
        for _ in range(repeats):
            for row, its, seconds in zip(rows, found, ours, strict=True):
                note(sides.ours(row).run(row.task, views, kind), seconds, its, f"{kind}_ours_failed")
            note(sides.official.run(task, views, kind), theirs, found[0], f"{kind}_official_failed")
        for its, seconds in zip(found, ours, strict=True):
            if seconds and theirs:
                mine, other = statistics.median(seconds), statistics.median(theirs)
                its[kind] = {"ours": mine, "official": other, "ratio": mine / other}
    for row, its in zip(rows, found, strict=True):
        its["engine"] = sides.ours(row).ask("engine")["engine"]
        if repeats:
            both = {"ours": sides.ours(row), "official": sides.official}
            start = {name: side.started["seconds"] for name, side in both.items()}
            its["start"] = {**start, "ratio": start["ours"] / start["official"]}
            memory = {name: side.ask("memory")["peak_mb"] for name, side in both.items()}
            if row.has_memory:
                its["memory"] = {**memory, "ratio": memory["ours"] / memory["official"]}
    return found


def processor_gflops(threads: int) -> dict[str, float]:
    """What torch reaches in float32: products by MKL as in the official network, and convolutions by oneDNN."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    tokens, weight = torch.randn(973, 384), torch.randn(1536, 384)
    maps = torch.randn(1, 256, 54, 72).to(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3).to(memory_format=torch.channels_last)
    work: dict[str, tuple[float, Callable[[], object]]] = {
        "linear": (2.0 * tokens.numel() * len(weight), lambda: F.linear(tokens, weight)),
        "convolution": (2.0 * maps[0, 0].numel() * kernel.numel(), lambda: F.conv2d(maps, kernel, padding=1)),
    }
    found = {}
    for name, (operations, run) in work.items():
        seconds = []
        for _ in range(50):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        found[name] = operations / statistics.median(seconds) / 1e9
    return found


def note(answer: dict[str, Any], seconds: list[float], found: dict[str, Any], failure: str) -> None:
    if "seconds" in answer:
        seconds.append(answer["seconds"])
    else:
        found[failure] = answer["error"]


def cells(found: dict[str, Any], kind: str, unit: str) -> str:
    if kind not in found:
        return "–"
    value, aim = found[kind], found["row"].get(kind)
    verdict = "" if aim is None else f", aim {aim:.2f} {'met' if value['ratio'] <= aim else '**missed**'}"
    digits = 0 if unit == "MB" else 2
    return f"{value['ours']:.{digits}f} / {value['official']:.{digits}f} {unit} = {value['ratio']:.2f}{verdict}"


def table_row(found: dict[str, Any]) -> str:
    columns = [found["row"]["name"], cells(found, "api", "s"), cells(found, "bare", "s"), cells(found, "memory", "MB")]
    return f"| {' | '.join([*columns, cells(found, 'start', 's'), found['engine']])} |"


def write_table(lines: Sequence[str]) -> None:
    """Into the document, with the day."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{DOCUMENT} has no place for the table"
    day = datetime.now(timezone.utc).date().isoformat()
    DOCUMENT.write_text("".join([before, BEGIN, "\n".join(lines), f"\n\nOn {day}.\n", END, after]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="interpreter of the environment of the official package")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="float32", help="of rows that do not name theirs")
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--repeats", type=int, default=3, help="at most so many; 0 only fills the cache of conversions")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--verbose", action="store_true", help="show what both sides say on stderr")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--out", type=Path, help="write the JSON here instead of after the table")
    arguments = parser.parse_args()

    from da3_core.api import DepthAnything3

    chosen = [row for row in ROWS if row.name in arguments.rows.split(",")]
    speed = processor_gflops(arguments.threads)
    lines = [
        f"In float32, torch does {speed['linear']:.0f} GFLOP/s in linear layers and {speed['convolution']:.0f} in "
        "convolutions on this machine.\n",
        f"Ours / official, medians, engine {arguments.engine}, {arguments.precision}, {arguments.threads} threads.\n",
        "| row | API | bare float32 network | peak memory | start | by |",
        "|---|---|---|---|---|---|",
    ]
    results = []
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for preset, of_preset in groupby(chosen, lambda row: row.preset):
            weights = Path(folder, preset)
            DepthAnything3.from_pretrained(f"untrained:{preset}", engine="torch").save_pretrained(weights)
            sides = Sides(weights, arguments)
            for _, rows in groupby(of_preset, lambda row: row.official):
                for found in compare(list(rows), sides, arguments.repeats):
                    results.append(found)
                    lines.append(table_row(found))
                    print(lines[-1], flush=True)
                    for name, reason in found.items():
                        if name.endswith("_failed"):
                            print(f"{found['row']['name']}: {name}: {reason}", file=sys.stderr)
            sides.close()
    if arguments.write:
        write_table(lines)
    machine = {"threads": arguments.threads, "gflops": speed}
    report.publish("compare_official", arguments.out, size_hw=SIZE_HW, **machine, rows=results)


if __name__ == "__main__":
    main()
