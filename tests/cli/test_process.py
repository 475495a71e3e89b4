# SPDX-License-Identifier: Apache-2.0
"""The command as a process of its own: what it imports, what it prints where, how it is interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from da3_core.cli.failures import failures_reported

ROOT = Path(__file__).parents[2]
DA3 = (sys.executable, "-m", "da3_core.cli")
SMALL = ("--model", "untrained:da3-small", "--process-res", "70", "--device", "cpu")
HEAVY = {"torch", "numpy", "cv2", "PIL", "trimesh", "huggingface_hub", "tqdm", "starlette", "uvicorn", "gradio"}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom da3_core.cli import app\n"
        "for command in ('', 'auto', 'images', 'video', 'colmap', 'backend', 'gradio', 'gallery', 'intrinsics'):\n"
        "    try: app([*command.split(), '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        f"print('heavy:', sorted({HEAVY} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("heavy: []\n")
    for name in ("auto", "image", "images", "intrinsics", "--process-res", "--export-format"):
        assert name in result.stdout


def test_importing_the_library_imports_nothing_heavy() -> None:
    code = f"import sys, da3_core; print(sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_script_for_intrinsics_is_the_command(photos: Path, tmp_path: Path) -> None:
    script = (sys.executable, ROOT / "estimate_k_matrix.py", *SMALL)
    subprocess.run([*script, "--image", photos / "1.png", "--output", "K matrix.txt"], cwd=tmp_path, check=True)
    assert [len(line.split()) for line in (tmp_path / "K matrix.txt").read_text().splitlines()] == [3, 3, 3]


def test_interrupting_ends_with_130_and_leaves_no_file(photos: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*DA3, "images", photos, "--export-dir", tmp_path / "out", *SMALL, "--process-res", "756"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "da3-small on cpu" in line:  # now the inference begins, which takes many seconds at this size
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate()
    # Where Ctrl-C met the making of a dataclass, Python ends as if killed by it, which a shell shows as 130 too.
    assert process.returncode in (130, -signal.SIGINT), rest
    assert "Traceback" not in rest
    assert not (tmp_path / "out").exists()


def test_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, failures_reported(debug=False):
        Path("/dev/full").write_bytes(b"more")
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "error: the disk is full: make room or choose another place\n"
