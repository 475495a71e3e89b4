# SPDX-License-Identifier: Apache-2.0
"""Commands with --use-backend: what they send, what they print, how they end."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from backend_process import DA3, ROOT, SLOW, TASK_S, BackendProcess
from typer.testing import Result

Command = Callable[..., Result]


@pytest.fixture
def use(backend: BackendProcess) -> tuple[str, ...]:
    """The options that send the work to `backend`, and keep it small."""
    return ("--use-backend", "--backend-url", backend.url, "--process-res", "56")


def depth_of(folder: Path) -> np.ndarray:
    with np.load(folder / "exports/mini_npz/results.npz") as arrays:
        return np.asarray(arrays["depth"])


def test_scenes_in_a_loop_are_done_in_order_and_replace_what_was_there(
    da3: Command, use: tuple[str, ...], backend: BackendProcess
) -> None:
    for scene, photo in (("scene1", "1.png"), ("scene2", "2.jpg"), ("scene1", "10.webp")):
        source = backend.workspace / "data" / scene
        source.mkdir(parents=True, exist_ok=True)
        (source / photo).write_bytes((backend.workspace / "photos" / photo).read_bytes())
        result = da3(
            *("auto", f"./data/{scene}", "--export-dir", f"./workspace/{scene}", "--auto-cleanup", *use),
            *("--export-format", "mini_npz"),
        )
        assert result.exit_code == 0, result.stderr
        written = [Path(line) for line in result.stdout.splitlines()]
        assert written == [backend.workspace / "workspace" / scene / "exports/mini_npz/results.npz"]
        assert len(depth_of(backend.workspace / "workspace" / scene)) == len(list(source.iterdir()))
        (backend.workspace / "workspace" / scene / "stale.txt").touch()
    left = {path.name for path in (backend.workspace / "workspace/scene1").iterdir()}
    assert left == {".da3-export", "exports", "stale.txt"}  # of which the last came after the last run


def test_existing_results_need_permission_and_survive_a_failure(
    da3: Command, use: tuple[str, ...], backend: BackendProcess
) -> None:
    command = ("images", "photos", "--export-dir", "precious", *use, "--export-format")
    assert da3(*command, "mini_npz").exit_code == 0
    asked = da3(*command, "mini_npz")
    assert (asked.exit_code, "--auto-cleanup" in asked.stderr) == (2, True)
    failed = da3(*command, "gs_ply", "--auto-cleanup")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "error: da3-small cannot be exported as 'gs_ply', which needs Gaussians" in failed.stderr
    assert len(depth_of(backend.workspace / "precious")) == 3

    foreign = backend.workspace / "foreign"
    foreign.mkdir()
    (foreign / "mine.txt").touch()
    assert da3(*command, "mini_npz", "--export-dir", "foreign", "--auto-cleanup").exit_code == 2
    assert da3(*command, "mini_npz", "--export-dir", "foreign", "--overwrite").exit_code == 0
    assert (foreign / "mine.txt").exists()
    assert da3(*command, "mini_npz", "--export-dir", "foreign", "--force-cleanup").exit_code == 0
    assert not (foreign / "mine.txt").exists()
    assert len(depth_of(foreign)) == 3


def test_frames_of_a_video_are_taken_here_and_sent_as_files(
    da3: Command, use: tuple[str, ...], backend: BackendProcess
) -> None:
    av = pytest.importorskip("av")
    with av.open(str(backend.workspace / "v.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=2)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    command = ("video", "v.mkv", "--fps", "1", "--export-dir", "from_video", "--export-format", "mini_npz", *use)
    failing = (*command[:-6], "gs_ply", *use, "--auto-cleanup")
    for extra in ((), ("--auto-cleanup",)):
        old = backend.workspace / "from_video/input_images/000009.png"
        if extra:
            old.touch()
            assert da3(*failing).exit_code == 1
            assert old.exists(), "there is nothing new yet"
            assert len(depth_of(backend.workspace / "from_video")) == 3
        assert da3(*command, *extra).exit_code == 0
        names = sorted(path.name for path in (backend.workspace / "from_video/input_images").iterdir())
        assert names == ["000000.png", "000001.png", "000002.png", "frames.json"]
        assert len(depth_of(backend.workspace / "from_video")) == 3


def test_cameras_of_a_reconstruction_are_sent(da3: Command, use: tuple[str, ...], backend: BackendProcess) -> None:
    folder = backend.workspace / "scan"
    (folder / "sparse/0").mkdir(parents=True)
    (folder / "images").mkdir()
    for name in ("1.png", "2.jpg"):
        (folder / "images" / name).write_bytes((backend.workspace / "photos" / name).read_bytes())
    (folder / "sparse/0/cameras.txt").write_text("1 OPENCV 160 120 150 140 82 58 0.01 0 0 0\n")
    (folder / "sparse/0/images.txt").write_text("1 1 0 0 0 0 0 0 1 1.png\n\n2 1 0 0 0 2 0 0 1 2.jpg\n\n")
    result = da3("colmap", "scan", "--export-dir", "scanned", "--export-format", "mini_npz", "--json", *use)
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["views"], summary["processed_size"], summary["model"]) == (2, [42, 56], "da3-small")
    (file,) = summary["files"]["mini_npz"]
    assert file["bytes"] == Path(file["path"]).stat().st_size
    with np.load(file["path"]) as arrays:
        np.testing.assert_allclose(arrays["extrinsics"][:, :3, 3], [[0, 0, 0], [2, 0, 0]], atol=1e-6)
        assert [Path(name).parent.name for name in arrays["image_names"]] == ["input_images"] * 2  # rectified


def test_options_reach_the_backend(da3: Command, use: tuple[str, ...], backend: BackendProcess) -> None:
    result = da3(
        *("images", "photos", "--export-dir", "options", "--export-format", "npz-glb", *use, "--no-wait"),
        *("--process-res-method", "lower_bound_crop", "--export-feat", "0,11", "--use-ray-pose", "--num-max-points"),
        *("7", "--no-show-cameras", "--ref-view-strategy", "first", "--export-kwargs", "glb:export_depth_vis:false"),
    )
    assert result.exit_code == 0, result.stderr
    (task_id,) = result.stdout.split()  # without waiting, the id is all
    task = backend.wait(task_id)
    assert task["status"] == "completed", task
    expected = {
        "process_res_method": "lower_bound_crop",
        "export_feat_layers": [0, 11],
        "use_ray_pose": True,
        "num_max_points": 7,
        "show_cameras": False,
        "ref_view_strategy": "first",
        "export_kwargs": {"glb": {"export_depth_vis": False}},
    }
    assert {name: task["request"][name] for name in expected} == expected
    assert not (backend.workspace / "options/depth_vis").exists()


def test_what_the_backend_decides_is_not_taken_silently(da3: Command, use: tuple[str, ...]) -> None:
    command = ("image", "photos/1.png", "--export-format", "mini_npz", *use, "--export-dir")
    other = da3(*command, "other", "--model-dir", "depth-anything/DA3-BASE", "--device", "cuda")
    assert other.exit_code == 0, other.stderr
    assert "the backend has the model untrained:da3-small, not depth-anything/DA3-BASE" in other.stderr
    assert "--device has no effect" in other.stderr
    same = da3(*command, "same", "--model-dir", "untrained:da3-small")
    assert (same.exit_code, "WARNING" in same.stderr) == (0, False)
    refused = da3(*command, "refused", "--weights-licence", "permissive")
    assert (refused.exit_code, "give it to `da3 backend`" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("export_dir", "image", "sentence"),
    [("../elsewhere", "photos/1.png", "with allow_root"), ("inside", "../outside.png", "with allow_root")],
)
def test_a_refusal_ends_with_the_backends_sentence(
    da3: Command, use: tuple[str, ...], backend: BackendProcess, export_dir: str, image: str, sentence: str
) -> None:
    (backend.workspace / "../outside.png").write_bytes((backend.workspace / "photos/1.png").read_bytes())
    result = da3("image", image, "--export-dir", export_dir, *use)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert not (backend.workspace / export_dir).exists()


class _NoBackend(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *arguments: object) -> None:
        pass


def test_without_a_backend_there_is_one_sentence_and_nothing_is_touched(da3: Command, backend: BackendProcess) -> None:
    command = ("image", "photos/1.png", "--export-dir", "never", "--use-backend", "--backend-url")
    with HTTPServer(("127.0.0.1", 0), _NoBackend) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        foreign = da3(*command, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    nobody = da3(*command, f"http://127.0.0.1:{server.server_port}")
    malformed = da3(*command, "localhost:8008")
    for result, sentence in ((foreign, "is no backend"), (nobody, "no backend is running"), (malformed, "write it as")):
        assert (result.exit_code, result.stdout) == (2, "")
        assert sentence in result.stderr
        assert "Traceback" not in result.stderr
    assert not (backend.workspace / "never").exists()


def test_interrupting_cancels_the_task(backend: BackendProcess, use: tuple[str, ...]) -> None:
    many = backend.workspace / "many"
    many.mkdir()
    for i in range(40):
        (many / f"{i}.png").write_bytes((backend.workspace / "photos/1.png").read_bytes())
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SLOW.items()]
    process = subprocess.Popen(
        [*DA3, "images", "many", "--export-dir", "interrupted", "--export-format", "mini_npz", *use, *options],
        cwd=backend.workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    task_id = next(line.split()[2] for line in process.stderr if " task " in line)
    backend.wait(task_id, until=("running",))
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=TASK_S)
    assert (process.returncode, "Traceback" in rest) == (130, False), rest
    assert backend.wait(task_id)["status"] == "cancelled"
    assert not (backend.workspace / "interrupted").exists()
