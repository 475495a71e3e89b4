# SPDX-License-Identifier: Apache-2.0
"""Whatever the OpenAPI description allows, and what it does not, is answered as it says, with paths that exist.

A bounded count with a fixed seed in the suite; longer with `DA3_OPENAPI_EXAMPLES=500`, per operation.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from backend_process import BackendProcess

hypothesis = pytest.importorskip("hypothesis")
schemathesis = pytest.importorskip("schemathesis")
requests = pytest.importorskip("requests")
st = hypothesis.strategies

EXAMPLES = int(os.environ.get("DA3_OPENAPI_EXAMPLES", "3"))  # of each operation; of the largest, four times as many
SEED = int(os.environ.get("DA3_OPENAPI_SEED", "1"))
SMALL = ("--max-task-gb", "1", "--max-task-seconds", "1", "--queue-size", "20", "--max-upload-mb", "2")
SMALLEST = {"image_paths": ["photos/1.png"], "process_res": 56}
REASONS_OF_OURS = (503, 507)  # stopping, and no room: said in a sentence, and no failure


@pytest.fixture(scope="module")
def asked(start_backend: Callable[..., BackendProcess]) -> BackendProcess:
    backend = start_backend(*SMALL)
    (backend.workspace / "photos/notes.png").write_text("no image")
    (backend.workspace / "photos/out.png").symlink_to("/etc/hostname")
    return backend


def paths(backend: BackendProcess) -> Any:
    """Mostly of images inside the root."""
    photos = backend.workspace / "photos"
    good = [str(photos / name) for name in ("1.png", "2.jpg", "10.webp")] + ["photos/1.png"]
    bad = ["photos/notes.png", "photos/out.png", "photos/none.png", "photos", "/etc/hostname", "../x", "", "a\0b"]
    return st.one_of(st.sampled_from(good), st.sampled_from(good), st.sampled_from(good + bad), st.text(max_size=20))


def folders() -> Any:
    return st.one_of(st.none(), st.sampled_from(["out", "out/a b", "photos", "..", "/", "photos/1.png", "o" * 300]))


@pytest.mark.timeout(0 if EXAMPLES > 3 else 300)
def test_every_operation_answers_as_described(asked: BackendProcess) -> None:
    session = requests.Session()
    session.trust_env = False  # no proxy is asked for this machine
    schema = schemathesis.openapi.from_dict(session.get(f"{asked.url}/openapi.json", timeout=60).json())
    task_ids = [asked.submit(**SMALLEST, export_dir="known", export_format="mini_npz")]
    statuses: dict[str, set[int]] = {}

    def ask(operation: Any) -> None:
        @hypothesis.seed(SEED)
        @hypothesis.settings(
            max_examples=EXAMPLES * (4 if operation.label == "POST /inference" else 1),
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(), data=st.data())
        def once(case: Any, data: Any) -> None:
            if operation.label == "POST /inference" and isinstance(case.body, dict) and data.draw(st.integers(0, 3)):
                case.body["image_paths"] = data.draw(st.lists(paths(asked), min_size=1, max_size=3))
                case.body["export_dir"] = data.draw(folders())
                case.body.setdefault("process_res", 56)
                if not data.draw(st.integers(0, 3)):  # else a field more would leave all of few examples refused
                    case.body = SMALLEST
            if "task_id" in (case.path_parameters or {}) and data.draw(st.booleans()):
                case.path_parameters["task_id"] = data.draw(st.sampled_from(task_ids))
            response = case.call(base_url=asked.url, session=session, timeout=60)
            statuses.setdefault(operation.label, set()).add(response.status_code)
            assert response.status_code < 500 or response.status_code in REASONS_OF_OURS, response.text
            if response.status_code >= 400:
                assert 8 < len(response.json()["detail"]) < 3000
            elif response.status_code == 200 and "/files/" not in operation.path:
                operation.validate_response(response)
            if response.status_code == 200 and operation.label == "POST /inference":
                task_ids.append(response.json()["task_id"])

        once()

    for found in schema.get_all_operations():
        ask(found.ok())
    assert {200, 422} <= statuses["POST /inference"]
    assert {200, 404} <= statuses["GET /task/{task_id}"]

    for task in asked.ask("GET", "/tasks").json["active_tasks"]:
        asked.ask("DELETE", f"/task/{task['task_id']}")
    assert asked.wait(asked.submit(**SMALLEST))["status"] == "completed"
    log = asked.log.read_text()
    assert "Traceback" not in log, log
    assert {path.name for path in asked.workspace.parent.iterdir()} <= {"work", "backend.log", "cache"}
