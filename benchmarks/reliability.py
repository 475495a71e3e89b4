# SPDX-License-Identifier: Apache-2.0
"""Attacks, wrong inputs, tasks at once, kills and waiting, counted; `docs/reliability.md` has the figures.

    python benchmarks/reliability.py                     # all, in about half an hour on two cores
    python benchmarks/reliability.py tasks kills         # some
    python benchmarks/reliability.py kills --kills 100
    python benchmarks/reliability.py inputs --inputs 20000 --seed 7   # of each reader, in place of the suite's few

Each part writes its table between its marks in the document. The services are real processes, asked over HTTP.
"""

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/reliability.md"
sys.path[:0] = [str(ROOT / "tests/web" / part) for part in ("backend", "gallery", "app")]

from backend_process import BackendProcess  # noqa: E402

# What tests try, by what it is aimed at.
ATTACKS = {
    "the backend: paths that change, hosts, tokens, bodies": (
        *("tests/web/backend/test_moving_paths.py", "tests/web/backend/test_guard.py"),
        *("tests/web/backend/test_remote_callers.py", "tests/web/backend/test_strangers.py"),
    ),
    "the app: files of others, pages of others, limits": ("tests/web/app/test_app_attacks.py",),
    "the gallery: ways out of its folder": ("tests/web/gallery/test_gallery_http.py",),
    "bags: links swapped in, links where one is written": ("tests/bag/test_bag_attacks.py",),
    "folders: names, links, other users, locks": ("tests/storage",),
    "checkpoints that carry programs": ("tests/model/test_weights.py",),
}
REQUEST_S = 60.0  # of a loaded machine
REQUESTS_OF_A_KIND = 10
Start = Callable[[], BackendProcess]


@dataclass(frozen=True)
class Storm:
    """What became of tasks that were submitted while the backend was killed.

    Attributes:
        kills: how often.
        accepted: submissions that were answered with an id.
        completed: those of them that ended with files that can be read.
        interrupted: those that say that the backend ended twice while they ran.
    """

    kills: int
    accepted: int
    completed: int
    interrupted: int

    @property
    def lost(self) -> int:
        return self.accepted - self.completed - self.interrupted


def submit_at_once(backend: BackendProcess, names: Sequence[str]) -> list[str]:
    """Tasks that write into folders of these names, from as many threads; the ids of those that were accepted."""
    begin = threading.Barrier(len(names))

    def submit(name: str) -> str | None:
        begin.wait()
        request = {"image_paths": ["photos/1.png"], "export_dir": name, "export_format": "mini_npz", "process_res": 56}
        try:
            answer = backend.ask("POST", "/inference", request)
        except (OSError, HTTPException):  # the backend is gone, and nobody was told an id
            return None
        return str(answer.json["task_id"]) if answer.status == 200 else None

    with ThreadPoolExecutor(len(names)) as pool:
        return [task_id for task_id in pool.map(submit, names) if task_id]


def killed_at_random(start: Start, kills: int, tasks: int, seed: int = 1) -> Storm:
    """Kill -9 at random moments while tasks are submitted and run; every time another backend goes on.

    Args:
        start: a backend in the same workspace with the same state folder; the one before has ended.
        tasks: at once, between two kills.
    """
    chance, accepted = random.Random(seed), []
    backend = start()
    for kill in range(kills):
        timer = threading.Timer(chance.uniform(0.01, 2.0), backend.process.kill)
        timer.start()
        accepted += submit_at_once(backend, [f"kill {kill}/{task}" for task in range(tasks)])
        timer.join()
        backend.process.communicate()
        backend = start()
    ends = [ended(backend, task_id) for task_id in accepted]
    return Storm(kills, len(accepted), ends.count("completed"), sum(end.startswith("interrupted") for end in ends))


def ended(backend: BackendProcess, task_id: str) -> str:
    """`completed`, if its files are there and whole; else what it says."""
    latest = time.monotonic() + 20 * REQUEST_S
    while time.monotonic() < latest:
        answer = backend.ask("GET", f"/task/{task_id}")
        if answer.status != 200:
            return f"{answer.status}"
        if answer.json["status"] in ("completed", "failed", "cancelled"):
            break
        time.sleep(0.2)
    if answer.json["status"] != "completed":
        return str(answer.json["message"])
    for file in answer.json["result"]["files"]:
        with np.load(file, allow_pickle=False) as arrays:
            assert np.isfinite(arrays["depth"]).all()
    return "completed"


@contextmanager
def backends(*arguments: str) -> Iterator[Start]:
    """`start()`s backends one after the other in a workspace of their own, with one state folder."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        workspace = Path(folder, "work")
        (workspace / "photos").mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
        Image.fromarray(pixels).save(workspace / "photos/1.png")

        def start() -> BackendProcess:
            backend = BackendProcess(workspace, "--state-dir", "../state", "--retention", "3600", *arguments)
            running.callback(lambda: backend.process.poll() is None and backend.stop())
            return backend

        yield start


def attacks(_: argparse.Namespace) -> list[str]:
    rows = ["| aimed at | attacks | got through | command |", "|---|---|---|---|"]
    for aim, tests in ATTACKS.items():
        ran = run_tests(*tests)
        rows.append(
            f"| {aim} | {len(ran)} | {sum(test.failed for test in ran)} | `python -m pytest {' '.join(tests)}` |"
        )
    return rows


def inputs(arguments: argparse.Namespace) -> list[str]:
    sys.path.insert(0, str(ROOT / "tests/fuzz"))
    from targets import TARGETS

    rows = ["| reader | inputs | crashes, hangs, other than a sentence | seconds |", "|---|---|---|---|"]
    seed, runs = str(arguments.seed), str(arguments.inputs)
    for test in run_tests("tests/fuzz/test_readers.py", DA3_FUZZ_RUNS=runs, DA3_FUZZ_SEED=seed):
        name = test.name.partition("[")[2].rstrip("]")
        tried = arguments.inputs or TARGETS[name]().runs
        rows.append(f"| {name} | {tried} | {int(test.failed)} | {test.seconds:.0f} |")
    each = max(REQUESTS_OF_A_KIND, arguments.inputs // 100)
    with backends() as start:
        kinds = sum(len(methods) for methods in start().ask("GET", "/openapi.json").json["paths"].values())
    [test] = run_tests("tests/web/backend/test_openapi.py", DA3_OPENAPI_EXAMPLES=str(each), DA3_OPENAPI_SEED=seed)
    rows.append(
        f"| requests by the OpenAPI description, up to {each} of each kind and {4 * each} of /inference "
        f"| {(kinds + 3) * each} | {int(test.failed)} | {test.seconds:.0f} |"
    )
    return [*rows, "", f"Seed {seed}."]


def tasks(arguments: argparse.Namespace) -> list[str]:
    with backends("--queue-size", str(arguments.tasks)) as start:
        backend = start()
        begin = time.perf_counter()
        accepted = submit_at_once(backend, [f"task {number}" for number in range(arguments.tasks)])
        answered_s = time.perf_counter() - begin
        ends = Counter(ended(backend, task_id) for task_id in accepted)
    return [
        "| submitted at once | accepted | completed, files whole | lost | all answered after |",
        "|---|---|---|---|---|",
        f"| {arguments.tasks} | {len(accepted)} | {ends['completed']} | {len(accepted) - ends['completed']} "
        f"| {answered_s:.1f} s |",
    ]


def kills(arguments: argparse.Namespace) -> list[str]:
    with backends("--queue-size", "1000") as start:
        storm = killed_at_random(start, arguments.kills, 20)
    return [
        "| kill -9 at random | tasks accepted | completed, files whole | told as interrupted twice | lost |",
        "|---|---|---|---|---|",
        f"| {storm.kills} | {storm.accepted} | {storm.completed} | {storm.interrupted} | {storm.lost} |",
    ]


def latency(_: argparse.Namespace) -> list[str]:
    """Of the second and later requests of a connection, which waited 46 ms for want of TCP_NODELAY."""
    from app_process import served_app
    from gallery_server import gallery_server

    rows = ["| keep-alive request | median, ms | fastest, ms |", "|---|---|---|"]

    def ask(name: str, url: str, path: str) -> None:
        connection, times = HTTPConnection(urlsplit(url).netloc, timeout=REQUEST_S), []
        for _ in range(300):
            begin = time.perf_counter()
            connection.request("GET", path)
            connection.getresponse().read()
            times.append(1e3 * (time.perf_counter() - begin))
        connection.close()
        rows.append(f"| {name} `{path}` | {statistics.median(times[1:]):.2f} | {min(times[1:]):.2f} |")

    with backends() as start, tempfile.TemporaryDirectory() as folder:
        ask("backend", start().url, "/healthz")
        with gallery_server(folder) as gallery:
            ask("gallery", gallery.url, "/manifest.json")
        with served_app(Path(folder)) as app:
            ask("app", app.url, "/gradio_api/startup-events")
    return rows


@dataclass(frozen=True)
class Test:
    """A test that ran."""

    name: str
    seconds: float
    failed: bool


def run_tests(*arguments: str, **environment: str) -> list[Test]:
    """Those that ran, and were not skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]
        subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=False)
        cases = ElementTree.parse(report).getroot().iter("testcase")
    return [
        Test(case.attrib["name"], float(case.attrib["time"]), any(each.tag in ("failure", "error") for each in case))
        for case in cases
        if case.find("skipped") is None
    ]


PARTS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    each.__name__: each for each in (attacks, inputs, tasks, kills, latency)
}


def write_table(part: str, rows: list[str]) -> None:
    """Between the marks of a part in the document, with the day and the machine."""
    day = datetime.now(timezone.utc).date().isoformat()
    table = "\n".join([*rows, "", f"On {day}, {os.cpu_count()} cores."])
    begin, end = f"<!-- written by: python benchmarks/reliability.py {part} -->", "<!-- end -->"
    text = DOCUMENT.read_text()
    changed, count = re.subn(
        f"({re.escape(begin)}\n).*?({end})", lambda match: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL
    )
    assert count == 1, f"{DOCUMENT} has no place for {part}"
    DOCUMENT.write_text(changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--tasks", type=int, default=200, help="at once")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--inputs", type=int, default=0, help="of each reader; 0 takes as many as the suite")
    parser.add_argument("--seed", type=int, default=3, help="of the inputs")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)}: choose of {', '.join(PARTS)}")
    for part in arguments.parts:
        rows = PARTS[part](arguments)
        print("\n".join(rows), flush=True)
        write_table(part, rows)


if __name__ == "__main__":
    main()
