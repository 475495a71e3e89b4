# SPDX-License-Identifier: Apache-2.0
"""The arrows between the layers point one way: read from the sources' import statements, lazy ones included."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(p for folder in ("da3_core", "da3_ros") for p in (ROOT / folder).rglob("*.py"))
ROS = {"rclpy", "std_msgs", "sensor_msgs", "geometry_msgs", "nav_msgs", "tf2_msgs", "diagnostic_msgs", "da3_ros"}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere, as absolute dotted names; typing-only blocks do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def under(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_layer(path: Path) -> None:
    inside = path.relative_to(ROOT).as_posix()
    modules = imports_of(path)
    if inside.startswith("da3_core/"):
        assert not {m for m in modules if under(m, *ROS)}, "da3_core never imports ROS"
    if inside.startswith("da3_core/network/"):
        assert not {m for m in modules if under(m, "da3_core")} - {
            m for m in modules if under(m, "da3_core.network", "da3_core.errors")
        }, "the network is pure torch"
    if inside.startswith("da3_core/export/"):
        forbidden = ("da3_core.network", "da3_core.api", "da3_core.weights", "da3_core.session")
        assert not {m for m in modules if under(m, *forbidden)}, "exporters know predictions, not models"
    if inside.startswith("da3_ros/") and inside != "da3_ros/engine.py":
        touches = ("torch", "da3_core.api", "da3_core.network", "da3_core.weights")
        assert not {m for m in modules if under(m, *touches)}, "only the engine touches the model"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("da3_core", {"torch", "numpy", "cv2"}),
        ("da3_core.cli", {"torch", "cv2", "trimesh", "huggingface_hub"}),
        ("da3_core.presets", {"torch"}),
        ("da3_core.export", {"torch", "trimesh"}),
    ],
)
def test_heavy_packages_are_imported_where_used(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not forbidden & set(loaded)


def test_every_source_names_its_licence() -> None:
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [p for p in files if "SPDX-License-Identifier: Apache-2.0" not in p.read_text()[:200]] == []
