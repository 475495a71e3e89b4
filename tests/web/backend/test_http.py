# SPDX-License-Identifier: Apache-2.0
"""What the backend answers: tasks from their beginning to their end, refusals, pages."""

import json
import os
import re
import struct
import time
import zlib
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_process import MODEL, SLOW, BackendProcess
from PIL import Image

FIELDS = {
    *("task_id", "status", "message", "progress", "created_at", "started_at", "completed_at", "export_dir", "request"),
    *("num_images", "export_format", "process_res_method", "video_path", "result", "queue_position"),
}


def test_a_task_ends_with_the_files_that_the_command_would_write(
    backend: BackendProcess, photos: list[str], da3: Callable[..., Any]
) -> None:
    request = {"image_paths": photos, "export_dir": "out/a b", "export_format": "mini_npz-glb", "num_max_points": 500}
    task = backend.wait(backend.submit(**request))
    assert task["status"] == "completed", task
    assert set(task) >= FIELDS
    assert (task["progress"], task["num_images"], task["video_path"]) == (1.0, 3, photos[0])
    assert task["created_at"] <= task["started_at"] <= task["completed_at"]
    result = task["result"]
    assert (result["depth_shape"], result["is_metric"], result["scale_factor"]) == ([3, 42, 56], False, None)
    assert result["timings"]["total"] >= result["timings"]["inference"] > 0
    written = sorted(path for path in (backend.workspace / "out/a b").rglob("[!.]*") if path.is_file())
    assert sorted(map(Path, result["files"])) == written
    assert {file["path"]: file["bytes"] for files in result["formats"].values() for file in files} == {
        str(path): path.stat().st_size for path in written
    }

    local = da3(
        *("images", backend.workspace / "photos", "--export-dir", "local", "--export-format", "mini_npz-glb"),
        *("--process-res", "56", "--num-max-points", "500", *MODEL),
    )
    assert local.exit_code == 0, local.stderr
    for path in written:
        twin = backend.workspace / "local" / path.relative_to(backend.workspace / "out/a b")
        assert path.read_bytes() == twin.read_bytes()


def test_the_same_photograph_gives_the_same_by_http_and_command(
    backend: BackendProcess, da3: Callable[..., Any]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    exif.get_ifd(0x8769)[0xA405] = 28
    pixels = np.random.default_rng(0).integers(0, 255, (80, 112, 3), np.uint8)
    photo = backend.workspace / "phone.jpg"
    Image.fromarray(pixels).save(photo, exif=exif)
    asked = {"image_paths": [str(photo)], "export_format": "npz", "apply_exif": True, "focal_from_exif": True}
    task = backend.wait(backend.submit(**asked, export_dir="by_http"))
    assert task["status"] == "completed", task
    small = (*MODEL, "--process-res", "56", "--export-format", "npz")
    local = da3("image", photo, "--export-dir", "by_command", "--apply-exif", "--focal-from-exif", *small)
    assert local.exit_code == 0, local.stderr
    one, other = (
        np.load(backend.workspace / folder / "exports/npz/results.npz") for folder in ("by_http", "by_command")
    )
    assert one["intrinsics_source"].tolist() == ["known"]
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    twice = backend.ask("POST", "/inference", {**asked, "intrinsics": [np.eye(3).tolist()]})
    assert twice.status == 422, twice.body
    assert "another way to tell the camera" in str(twice.body)


def test_given_cameras_become_the_results(backend: BackendProcess, photos: list[str]) -> None:
    extrinsics = np.tile(np.eye(4), (3, 1, 1))
    extrinsics[:, 0, 3] = (0, 1, 3)
    intrinsics = np.tile([[150.0, 0, 82], [0, 140, 58], [0, 0, 1]], (3, 1, 1))
    cameras = {"extrinsics": extrinsics.tolist(), "intrinsics": intrinsics.tolist()}
    task = backend.wait(backend.submit(image_paths=photos, export_dir="posed", export_format="mini_npz", **cameras))
    assert task["status"] == "completed", task
    assert not {"extrinsics", "intrinsics"} & set(task["request"])
    with np.load(task["result"]["files"][0]) as arrays:
        np.testing.assert_allclose(arrays["extrinsics"], extrinsics, atol=1e-6)


def test_without_an_export_folder_nothing_is_written(backend: BackendProcess, photos: list[str]) -> None:
    before = set(backend.workspace.rglob("*"))
    task = backend.wait(backend.submit(image_paths=photos[:1]))
    assert (task["status"], task["result"]["files"], task["result"]["depth_shape"]) == ("completed", [], [1, 42, 56])
    assert set(backend.workspace.rglob("*")) == before


@pytest.mark.parametrize("way", ["http", "command"])
def test_photographs_are_turned_upright_by_the_backend(
    backend: BackendProcess, da3: Callable[..., Any], way: str
) -> None:
    lying, exif = backend.workspace / "lying.jpg", Image.Exif()
    exif[0x0112] = 6  # Orientation: a quarter turn
    Image.new("RGB", (112, 80)).save(lying, exif=exif)
    if way == "http":
        task = backend.wait(backend.submit(image_paths=[str(lying)], apply_exif=True))
        assert task["result"]["depth_shape"] == [1, 56, 42]
    else:
        use_backend = ("--use-backend", "--backend-url", backend.url, "--json", "--export-dir", "turned")
        result = da3("image", lying, "--apply-exif", "--process-res", "56", *use_backend)
        assert json.loads(result.stdout)["processed_size"] == [56, 42], result.stderr


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"colour": "red"}, "colour: there is no such field"),
    "no images": ({"image_paths": []}, "image_paths"),
    "missing image": ({"image_paths": ["none.png"]}, "none.png (no such file)"),
    "no image": ({"image_paths": ["notes.txt"]}, "notes.txt"),
    "unknown format": ({"export_format": "glb-obj"}, "unknown export format 'obj'"),
    "unknown option of a format": ({"export_kwargs": {"glb": {"colour": 1}}}, "colour"),
    "wrong option of a format": ({"export_kwargs": {"glb": {"conf_thresh": "much"}}}, "conf_thresh"),
    "options of no format": ({"export_kwargs": {"obj": {}}}, "obj"),
    "a size that no model takes": ({"process_res": 1_000_000}, "process_res"),
    "169 megapixels in 20 kB": ({"image_paths": ["many.png"]}, "169000000 pixels exceed"),
    "a text without end": ({"image_paths": ["text.png"]}, "text.png"),
    "views for which there is no memory": (
        {"image_paths": ["photos/1.png"] * 20_000, "max_views_per_window": 20_000, "process_res": 2000}, "GB",
    ),
    "unknown method": ({"process_res_method": "stretch"}, "process_res_method"),
    "unknown pose method": ({"pose_method": "guess"}, "pose_method"),
    "too few cameras": ({"extrinsics": [np.eye(4).tolist()] * 2}, "for 1 images"),
    "ragged cameras": ({"extrinsics": [[[1.0], [1.0, 2.0]]]}, "different lengths"),
    "mirrored cameras": ({"extrinsics": [np.diag([1, 1, -1.0, 1]).tolist()]}, "not rigid"),
    "a file as folder": ({"export_dir": "notes.txt"}, "is a file"),
    "emptying what is not ours": (
        {"export_dir": "photos", "auto_cleanup": True}, "give another export_dir, or use auto_cleanup: false",
    ),
    "emptying an allowed folder": ({"export_dir": ".", "auto_cleanup": True}, "would delete"),
    "another's files by a side door": (
        {"export_kwargs": {"colmap": {"image_names": ["/etc/passwd"], "copy_images": True}}}, "image_names",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_cannot_work_is_refused_in_one_sentence(
    backend: BackendProcess, photos: list[str], case: str
) -> None:
    (backend.workspace / "notes.txt").write_text("no image")
    if not (backend.workspace / "many.png").exists():
        Image.new("1", (13_000, 13_000)).save(backend.workspace / "many.png")
        chunk = b"zTXta\0\0" + zlib.compress(bytes(100_000_000))
        text = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        png = Path(photos[0]).read_bytes()
        (backend.workspace / "text.png").write_bytes(png[:33] + text + png[33:])
    change, sentence = REFUSED[case]
    answer = backend.ask("POST", "/inference", {"image_paths": photos[:1], **change})
    assert answer.status == 422, answer.body
    assert sentence in answer.json["detail"]
    assert (backend.workspace / "photos/1.png").exists()


def test_what_only_the_model_can_refuse_fails_the_task_and_keeps_earlier_results(
    backend: BackendProcess, photos: list[str]
) -> None:
    request = {"image_paths": photos, "export_dir": "kept", "export_format": "mini_npz"}
    assert backend.wait(backend.submit(**request))["status"] == "completed"
    again = {**request, "auto_cleanup": True}
    task = backend.wait(backend.submit(**{**again, "export_format": "gs_ply"}))
    assert task["status"] == "failed"
    assert "'gs_ply', which needs Gaussians" in task["message"]
    task = backend.wait(backend.submit(**again, extrinsics=np.tile(np.eye(4), (3, 1, 1)).tolist()))
    assert (task["status"], "without intrinsics" in task["message"]) == ("failed", True)
    assert (backend.workspace / "kept/exports/mini_npz/results.npz").exists()


def test_broken_json_and_bodies_without_end_are_refused(backend: BackendProcess) -> None:
    assert backend.ask("POST", "/inference", raw=b'{"image_paths": [').status == 422
    assert backend.ask("POST", "/inference", raw=b"", headers={"Content-Length": str(1 << 40)}).status == 413
    assert backend.ask("POST", "/inference", raw=b"", headers={"Content-Length": "-1"}).status == 400
    assert backend.ask("POST", "/inference", raw=b"[" * 1_000_000).status in (400, 422)
    assert backend.ask("POST", "/inference", raw=b'{"\\ud800": 1}').status == 422
    chunked = {**multipart([("1.png", bytes(3_000_000))])[1], "Transfer-Encoding": "chunked"}
    assert (
        backend.ask(
            "POST", "/upload", raw=in_chunks(multipart([("1.png", bytes(3_000_000))])[0]), headers=chunked
        ).status
        == 413
    )


def test_tasks_wait_run_and_are_cancelled(backend: BackendProcess, photos: list[str]) -> None:
    running = backend.submit(image_paths=photos * 20, export_dir="cancelled", export_format="mini_npz", **SLOW)
    first, second = (backend.submit(image_paths=photos[:1]) for _ in range(2))
    backend.wait(running, until=("running",))
    assert [backend.ask("GET", f"/task/{task}").json["queue_position"] for task in (running, first, second)] == [
        None,
        1,
        2,
    ]
    tasks = backend.ask("GET", "/tasks").json
    assert [task["task_id"] for task in tasks["active_tasks"]] == [running, first, second]
    assert tasks["active_count"] == 3
    assert tasks["total_count"] == len(tasks["tasks"]) == 3 + len(tasks["completed_tasks"])

    assert backend.ask("DELETE", f"/task/{first}").status == 200
    assert backend.wait(first)["status"] == "cancelled"  # at once, though another runs
    assert backend.ask("GET", f"/task/{second}").json["queue_position"] == 1
    assert backend.ask("DELETE", f"/task/{running}").status == 200
    task = backend.wait(running)
    assert (task["status"], task["result"]) == ("cancelled", None)
    assert not (backend.workspace / "cancelled").exists()
    assert backend.wait(second)["status"] == "completed"


def test_finished_tasks_can_be_forgotten_which_is_not_the_same_as_never_having_been(
    backend: BackendProcess, photos: list[str]
) -> None:
    task = backend.submit(image_paths=photos[:1])
    backend.wait(task)
    assert backend.ask("POST", "/cleanup").json["active_tasks"] == 0  # it is not old
    assert backend.ask("DELETE", f"/task/{task}").status == 200
    for method in ("GET", "DELETE"):
        assert backend.ask(method, f"/task/{task}").status == 410
        assert backend.ask(method, "/task/none").status == 404


def test_the_model_is_loaded_anew_when_its_turn_comes(backend: BackendProcess, photos: list[str]) -> None:
    backend.wait(backend.submit(image_paths=photos[:1]))
    before = backend.ask("GET", "/status").json
    answer = backend.ask("POST", "/reload")
    task = backend.wait(answer.json["task_id"])
    assert (answer.status, task["kind"], task["status"], task["request"]) == (200, "reload", "completed", None)
    after = backend.ask("GET", "/status").json
    assert (after["model_loaded"], after["model_dir"], after["device"]) == (True, "untrained:da3-small", "cpu")
    assert (after["model"], after["warning"]) == ("da3-small", None)
    assert after["load_time"] > 0
    assert after["last_used"] > before["last_used"]
    assert after["gpu_memory"] is None
    assert backend.ask("GET", "/gpu-memory").json == {"available": False, "message": "the model runs on cpu"}


def test_pages_show_names_as_text(backend: BackendProcess, photos: list[str]) -> None:
    name = "<img src=x onerror=alert(1)>&\"'"
    backend.wait(backend.submit(image_paths=photos[:1], export_dir=name, export_format="mini_npz"))
    page = backend.ask("GET", "/dashboard?refresh=on")
    assert b"&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#x27;" in page.body
    assert b"<img src=x" not in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    start = backend.ask("GET", "/").body
    assert b'href="dashboard"' in start
    assert b'href="gallery/"' in start


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_interface_is_described_without_asking_anybody_else(backend: BackendProcess, path: str) -> None:
    answer = backend.ask("GET", path)
    page = answer.body.decode()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not {"<script", "<link", "src=", "https:"} & set(re.findall(r"<script|<link|src=|https:", page))
    description = backend.ask("GET", "/openapi.json").json
    for place in description["paths"]:
        assert f" {place}</code>" in page
    for field in description["components"]["schemas"]["InferenceRequest"]["properties"]:
        assert f"<td>{field}</td>" in page


def test_connections_that_stay_open_answer_at_once(backend: BackendProcess) -> None:
    connection = HTTPConnection("127.0.0.1", backend.port)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - start)
    connection.close()
    assert min(seconds[1:]) < 0.02  # without TCP_NODELAY each takes 40 ms more
    assert sorted(seconds)[10] < 0.04


def test_scenes_in_the_gallery_folder_are_shown(backend: BackendProcess, photos: list[str]) -> None:
    task = backend.submit(image_paths=photos, export_dir="workspace/gallery/room/first", export_format="glb")
    assert backend.wait(task)["status"] == "completed"
    assert backend.ask("GET", "/gallery/").status == 200
    assert backend.ask("GET", "/gallery/manifest.json").json == {"groups": [{"id": "room", "title": "room"}]}
    (item,) = backend.ask("GET", "/gallery/manifest/room.json").json["items"]
    assert item["model"] == "/gallery/room/first/scene.glb"
    assert backend.ask("GET", item["model"]).body == (backend.workspace / f"workspace{item['model']}").read_bytes()


def multipart(files: list[tuple[str, bytes]]) -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join([*parts, b"--limit--\r\n"]), {"Content-Type": "multipart/form-data; boundary=limit"}


def in_chunks(body: bytes) -> bytes:
    """For `Transfer-Encoding: chunked`, which does not say how long the whole is."""
    pieces = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def upload(backend: BackendProcess, *files: tuple[str, bytes]) -> Any:
    body, headers = multipart(list(files))
    return backend.ask("POST", "/upload", raw=body, headers=headers)


def test_images_come_and_results_go_without_a_shared_disk(backend: BackendProcess, photos: list[str]) -> None:
    contents = [Path(path).read_bytes() for path in photos]
    names = ("../../a.png", "b c;.jpg", "/etc/ü.webp")
    answer = upload(backend, *zip(names, contents, strict=True))
    assert answer.status == 200, answer.body
    paths = [Path(path) for path in answer.json["image_paths"]]
    assert [path.read_bytes() for path in paths] == contents
    assert [path.name for path in paths] == ["000000_a.png", "000001_b_c_.jpg", "000002__.webp"]
    assert not any(path.is_relative_to(backend.workspace) for path in paths)

    request = {name: answer.json[name] for name in ("image_paths", "export_dir")}
    task = backend.wait(backend.submit(**request, export_format="mini_npz"))
    assert task["status"] == "completed", task
    results = f"/task/{task['task_id']}/files/"
    file = backend.ask("GET", results + "exports/mini_npz/results.npz")
    assert file.body == Path(task["result"]["files"][0]).read_bytes()
    assert file.headers["content-disposition"].startswith("attachment")
    for path in ("results.npz", "../images/000000_a.png", "%2e%2e/images/000000_a.png", "/etc/passwd"):
        assert backend.ask("GET", results + path).status == 404


def test_uploads_that_are_no_images_or_too_much_are_refused_and_leave_nothing(
    backend: BackendProcess, photos: list[str]
) -> None:
    good = ("1.png", Path(photos[0]).read_bytes())
    folder = Path(upload(backend, good).json["image_paths"][0]).parents[2]
    before = set(folder.iterdir())
    assert upload(backend, good, ("2.png", b"no image")).status == 422
    assert upload(backend, ("big.png", os.urandom(1_000_000)), good).status == 507
    assert upload(backend, ("huge.png", bytes(3_000_000))).status == 413
    assert upload(backend).status == 422
    assert set(folder.iterdir()) == before
