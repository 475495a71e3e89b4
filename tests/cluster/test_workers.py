# SPDX-License-Identifier: Apache-2.0
"""Workers on a local cluster of two machines: the results of a single process, whatever ends on the way."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

pytest.importorskip("rosbags", reason="needs the package rosbags")
if find_spec("ray") is None:  # it must not be imported before its environment is set
    pytest.skip("needs the package ray", allow_module_level=True)

from da3_core.api import DepthAnything3
from da3_core.bag.camera import RecordedCamera
from da3_core.bag.options import BagOptions
from da3_core.bag.process import BagSummary, process_bag
from da3_core.bag.read import BagReader
from da3_core.cli.at_hand import LocalModel, WorkersModel
from da3_core.cli.run_batch import run_batch
from da3_core.cluster.connection import connected
from da3_core.cluster.options import ClusterOptions
from da3_core.cluster.pool import PoolInference, WorkerPool, WorkersLost
from da3_core.options import InferenceOptions, ModelOptions, SceneOptions
from da3_core.stream.frame import Frame
from da3_core.stream.inference import Inference, InferenceInTurn, WindowRow, bind_frames, bind_predict
from da3_core.synthetic import Walk
from da3_core.synthetic.bag import write_bag

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelOptions(model="untrained:da3-small", device="cpu", engine="torch", precision="float32")
OPTIONS = BagOptions(window=3, alignment_views=1, duration_s=1.0, copy_topics="^/tf", window_messages=False)
SMALL = ("--model", MODEL.model, "--device", "cpu", "--engine", "torch", "--precision", "float32")


@pytest.fixture(scope="module")
def single() -> Iterator[DepthAnything3]:
    """A model in this process, with the threads of a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield DepthAnything3.from_options(MODEL)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with connected(ClusterOptions(workers=1)) as ray:
        yield ray


@pytest.fixture(scope="module")
def second_machine(cluster: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Another node, with room for three workers; its processes are one group."""
    address = cluster.get_runtime_context().gcs_address
    command = [sys.executable, str(Path(__file__).with_name("second_machine.py")), address, "3"]
    with subprocess.Popen(command, start_new_session=True) as node:
        wait_until(lambda: sum(each["Alive"] for each in cluster.nodes()) == 2)
        yield node
        end_group(node)


@pytest.fixture(scope="module")
def three_workers(cluster: Any, second_machine: object) -> Iterator[WorkerPool]:
    """On two machines, with room for one more."""
    pool = WorkerPool(cluster, ClusterOptions(workers=3), MODEL)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def recording(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(walk, tmp_path_factory.mktemp("recording") / "bag")


@pytest.fixture(scope="module")
def plain(single: DepthAnything3, recording: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bag of a single process."""
    output, options = tmp_path_factory.mktemp("plain") / "out", single.check(InferenceOptions(process_res=56))
    process(recording, output, InferenceInTurn(bind_frames(single, options), bind_predict(single, options)))
    return (output / "out.mcap").read_bytes()


def wait_until(is_true: Callable[[], bool], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end, "too late"
        time.sleep(0.02)


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Nothing of it goes on."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def process(bag: Path, output: Path, infer: Inference[Frame]) -> BagSummary:
    with BagReader(bag) as opened:
        return process_bag(
            RecordedCamera(opened, OPTIONS),
            infer,
            OPTIONS,
            output,
            "mcap",
            model_name="model",
            advance=lambda count: None,
            stop=lambda: False,
            on_result=lambda result, session: None,
            ahead=lambda windows: infer.ahead(windows, lambda window: window.frames, lambda window: window.decoded(1)),
        )


def asked(pool: WorkerPool) -> tuple[PoolInference[Frame], list[WindowRow]]:
    """An inference, and what it tells of its windows."""
    options, rows = pool.model.check(InferenceOptions(process_res=56)), list[WindowRow]()
    return PoolInference(pool, bind_frames(pool.model, options), options, rows.append), rows


@contextmanager
def killing(pool: WorkerPool, window: int, times: int) -> Iterator[list[str]]:
    """Kill who is at a window of those to come, so many times; what is yielded are the workers that were killed."""
    killed: list[str] = []
    done, number = threading.Event(), pool.begun + window

    def kill() -> None:
        while len(killed) < times and not done.wait(0.001):
            for name, at in pool.at_work().items():
                if at == number and name not in killed:
                    os.kill(int(name.rpartition(":")[2]), signal.SIGKILL)
                    killed.append(name)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def test_one_worker_gives_the_bag_of_a_single_process(
    cluster: Any, single: DepthAnything3, recording: Path, plain: bytes, tmp_path: Path
) -> None:
    pool = WorkerPool(cluster, ClusterOptions(workers=1), MODEL)
    assert pool.model.fingerprint == single.fingerprint
    infer, rows = asked(pool)
    assert process(recording, tmp_path / "out", infer).frames == 10
    assert " 8 windows, " in pool.told()
    assert pool.is_idle
    assert (tmp_path / "out/out.mcap").read_bytes() == plain
    assert [(row.views, row.lost_workers, row.error) for row in rows] == [(3, 0, None)] * 8
    assert cluster.get_runtime_context().gcs_address.startswith("127.0.0.1:")
    heard = set()
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # some end meanwhile
            heard |= {c.laddr.ip for c in each.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert heard <= {"127.0.0.1", "::ffff:127.0.0.1"}, "everything is bound to loopback"
    assert heard
    pool.close()
    with pytest.raises(WorkersLost, match="was ended"):
        process(recording, tmp_path / "another", infer)


def test_worker_that_is_killed_costs_its_window_only(
    three_workers: WorkerPool, recording: Path, plain: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    infer, rows = asked(three_workers)
    with killing(three_workers, window=2, times=1) as killed:
        process(recording, tmp_path / "out", infer)
    assert (tmp_path / "out/out.mcap").read_bytes() == plain
    assert len(killed) == 1
    assert sorted(row.lost_workers for row in rows) == [0] * 7 + [1]  # the worker may have begun another by then
    assert capsys.readouterr().out == "", "which is for results"


def test_window_that_ends_every_worker_is_left_out(
    three_workers: WorkerPool, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("da3_core.cluster.pool.MOST_TRIES", 2)  # each costs the start of a worker
    infer, rows = asked(three_workers)
    with killing(three_workers, window=7, times=2) as killed:
        summary = process(recording, tmp_path / "out", infer)
    assert len(killed) == 2
    assert (summary.frames, summary.refused) == (9, {"unusable": 1})
    assert "2 workers ended while they inferred" in summary.refusals
    assert [row.error is None for row in rows] == [True] * 7 + [False]


def test_batch_whose_driver_was_killed_goes_on_side_by_side_and_a_machine_may_leave(
    cluster: Any,
    three_workers: WorkerPool,
    second_machine: "subprocess.Popen[bytes]",
    single: DepthAnything3,
    walk: Walk,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs = [tmp_path / name for name in ("first", "second", "third")]
    for folder, count in zip(inputs, (8, 5, 1), strict=True):
        folder.mkdir()
        for i, image in enumerate(walk.images[:count]):
            Image.fromarray(image).save(folder / f"{i}.png")
    out = tmp_path / "out"
    chosen = ("--process-res", "56", "--max-views-per-window", "4", "--export-format", "npz-tum")
    joined = ("--ray-address", cluster.get_runtime_context().gcs_address, "--workers", "1", "--output-dir", out)
    command = [sys.executable, "-m", "da3_core.cli", *map(str, ("batch", *inputs, *SMALL, *chosen, *joined))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as driver:
        wait_until(lambda: driver.poll() is not None or len(list(out.glob(".first.windows/*.window"))) >= 1)
        driver.kill()
    assert driver.returncode == -signal.SIGKILL

    caplog.set_level("INFO")
    options = SceneOptions(process_res=56, max_views_per_window=4, export_format="npz-tum")

    def go_on(output: Path, hand: LocalModel | WorkersModel) -> list[dict[str, Any]]:
        open_model = partial(nullcontext, hand)
        run_batch(inputs, output, MODEL, options, BagOptions(), open_model, retries=0, at_once=2, as_json=True)
        told: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return told

    def leave() -> None:
        begun = three_workers.begun
        wait_until(lambda: three_workers.begun > begun)
        end_group(second_machine)

    leaving = threading.Thread(target=leave)
    leaving.start()
    told = go_on(out, WorkersModel(three_workers))
    leaving.join()
    assert [(Path(each["input"]), each["state"], each["tries"]) for each in told] == [(i, "done", 1) for i in inputs]
    assert " finished windows of an earlier run" in caplog.text
    go_on(tmp_path / "plain", LocalModel(MODEL))
    for recording in inputs:
        for file in ("trajectory.txt", "exports/npz/results.npz"):
            assert (out / recording.name / file).read_bytes() == (
                tmp_path / "plain" / recording.name / file
            ).read_bytes()
