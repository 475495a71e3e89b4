# SPDX-License-Identifier: Apache-2.0
"""What a backend knows outlives it: killed at any moment, the next one goes on, and nothing accepted is lost."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backend_process import DA3, MODEL, BackendProcess
from reliability import killed_at_random
from test_http import upload


@pytest.fixture
def start(start_backend: Callable[..., BackendProcess]) -> Iterator[Callable[[], BackendProcess]]:
    """`start()` a backend in one workspace with one state folder; the one before it must have ended."""
    started: list[BackendProcess] = []

    def again() -> BackendProcess:
        arguments = ("--state-dir", "../state", "--allow-root", ".")
        started.append(BackendProcess(started[0].workspace, *arguments) if started else start_backend(*arguments))
        return started[-1]

    yield again
    for one in started:
        if one.process.poll() is None:
            one.stop()


def kill(backend: BackendProcess) -> None:
    backend.process.kill()
    backend.process.communicate()


def images(backend: BackendProcess, number: int = 1) -> list[str]:
    return [str(backend.workspace / "photos/1.png")] * number


def test_a_killed_backend_is_gone_on_with(start: Callable[[], BackendProcess]) -> None:
    one = start()
    answer = upload(one, ("1.png", Path(images(one)[0]).read_bytes())).json
    unused = upload(one, ("2.png", Path(images(one)[0]).read_bytes())).json
    request = {name: answer[name] for name in ("image_paths", "export_dir")}
    done = one.wait(one.submit(**request, export_format="mini_npz"))
    failed = one.wait(one.submit(image_paths=images(one), export_dir="g", export_format="gs_ply"))
    dropped = one.submit(image_paths=images(one))
    one.wait(dropped)
    one.ask("DELETE", f"/task/{dropped}")
    long = one.submit(image_paths=images(one, 8), process_res=252, export_dir="long", export_format="mini_npz")
    waiting = [one.submit(image_paths=images(one)) for _ in range(3)]
    one.wait(long, until=("running",))
    kill(one)

    two = start()
    assert two.ask("GET", f"/task/{done['task_id']}").json == done
    assert two.ask("GET", f"/task/{failed['task_id']}").json == failed
    file = two.ask("GET", f"/task/{done['task_id']}/files/exports/mini_npz/results.npz")
    assert file.body == Path(done["result"]["files"][0]).read_bytes()
    assert not Path(unused["image_paths"][0]).exists()
    assert two.ask("GET", f"/task/{dropped}").status == 410
    again = two.wait(long)
    assert (again["status"], "begun again after the backend had ended" in again["message"]) == ("completed", True)
    ends = [two.wait(task) for task in waiting]
    assert [end["status"] for end in ends] == ["completed"] * 3
    assert [end["started_at"] for end in ends] == sorted(end["started_at"] for end in ends)
    assert list((two.workspace / "long").glob(".staging-*")) == []

    assert two.stop() == 0
    three = start()
    assert three.ask("GET", f"/task/{long}").json == again


def test_a_task_that_ends_the_backend_is_not_begun_for_ever(start: Callable[[], BackendProcess]) -> None:
    backend = start()
    task = backend.submit(image_paths=images(backend, 40), process_res=252)
    after = backend.submit(image_paths=images(backend))
    for _ in range(2):
        backend.wait(task, until=("running",))
        kill(backend)
        backend = start()
    end = backend.wait(task)
    assert (end["status"], end["message"]) == ("failed", "interrupted: the backend ended 2 times while it ran")
    assert backend.wait(after)["status"] == "completed"


def test_nothing_accepted_is_lost_when_the_backend_is_killed_at_random(start: Callable[[], BackendProcess]) -> None:
    """At length: `python benchmarks/reliability.py kills`."""
    storm = killed_at_random(start, kills=2, tasks=8)
    assert storm.accepted > storm.kills
    assert (storm.lost, storm.interrupted <= storm.kills) == (0, True), storm


def refusal(workspace: Path, *arguments: str) -> str:
    """Of a backend that does not start."""
    command = [*DA3, "backend", *MODEL, "--port", "0", *arguments]
    ended = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    return ended.stderr.strip().splitlines()[-1]


def test_state_that_cannot_be_used_is_told(start: Callable[[], BackendProcess], tmp_path: Path) -> None:
    backend = start()
    message = refusal(backend.workspace, "--state-dir", "../state")
    assert "another backend keeps its tasks in ../state: give another --state-dir" in message
    (tmp_path / "file").touch()
    assert "cannot use the folder" in refusal(tmp_path, "--state-dir", "file")
    (tmp_path / "tasks.sqlite").write_bytes(b"no database" * 1000)
    assert "move the file away" in refusal(tmp_path, "--state-dir", ".")
