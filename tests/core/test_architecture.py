# SPDX-License-Identifier: Apache-2.0
"""The map of the house as a table: who may import whom, read from the import statements, lazy ones included."""

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(p for folder in ("da3_core", "da3_ros") for p in (ROOT / folder).rglob("*.py"))
ROS = {"rclpy", "std_msgs", "sensor_msgs", "geometry_msgs", "nav_msgs", "tf2_msgs", "diagnostic_msgs", "da3_ros"}
TOP_FILES = {"__init__", "api", "prediction", "preprocessing", "postprocessing", "pipeline", "options", "errors"}
TOP_FILES |= {"visualise"}

# What a file or wing of da3_core may import of the others. `errors` may be imported by all, `cli` by none.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "prediction": set(),
    "visualise": set(),
    "network": set(),
    "geometry": set(),
    "storage": {"formats"},  # images are opened the same way everywhere
    "formats": {"geometry"},
    "ros_data": {"formats", "geometry", "options", "prediction", "stream", "visualise"},
    "options": {"network"},
    "render": {"prediction"},
    "model": {"network", "options", "storage"},
    "engines": {"network", "storage"},
    "preprocessing": {"formats", "options"},
    "postprocessing": {"geometry", "network", "prediction", "preprocessing"},
    "export": {"formats", "geometry", "options", "prediction", "render", "storage", "visualise"},
    "sources": {"formats", "geometry", "options", "ros_data", "storage"},
    "stream": {"geometry", "options", "prediction", "storage"},
    "synthetic": {"geometry", "options", "postprocessing", "prediction", "preprocessing", "ros_data", "storage"},
    "bag": {"geometry", "options", "prediction", "ros_data", "storage", "stream", "visualise"},
    "api": {
        "engines",
        "export",
        "geometry",
        "model",
        "network",
        "options",
        "postprocessing",
        "prediction",
        *("preprocessing", "storage"),
    },
    "sharing": {"api", "model", "options", "prediction", "stream"},
    "cluster": {"api", "bag", "model", "options", "prediction", "storage", "stream"},
    "pipeline": {
        "api",
        "export",
        "formats",
        "model",
        "options",
        "postprocessing",
        "prediction",
        "sources",
        "storage",
        "stream",
    },
    "web": {
        *("api", "engines", "export", "formats", "geometry", "model", "options", "pipeline"),
        *("prediction", "preprocessing", "sources", "storage", "visualise"),
    },
    "cli": {
        *("api", "bag", "cluster", "engines", "export", "formats", "geometry", "model", "options", "pipeline"),
        *("prediction", "ros_data", "sources", "storage", "stream", "web"),
    },
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module that a file imports anywhere, for typing alone too, as absolute dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def under(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def wing_of(module: str) -> str:
    """`geometry` of `da3_core.geometry.cameras`; empty for `da3_core` itself."""
    return [*module.split("."), ""][1]


def test_the_top_level_is_the_map() -> None:
    top = {p.stem for p in (ROOT / "da3_core").glob("*.py")}
    wings = {p.parent.name for p in (ROOT / "da3_core").glob("*/__init__.py")}
    assert top == TOP_FILES
    assert wings | (TOP_FILES - {"__init__"}) == set(MAY_IMPORT)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    imported = imports_of(path)
    name = module_name(path)
    if name.startswith("da3_core"):
        assert not {m for m in imported if under(m, *ROS)}, "da3_core never imports ROS"
        wing = wing_of(name)
        if wing:
            allowed = MAY_IMPORT[wing] | {wing, "errors"}
            others = {wing_of(m) for m in imported if under(m, "da3_core") and wing_of(m) in MAY_IMPORT}
            assert others <= allowed, f"{wing} may not import {sorted(others - allowed)}"
    elif name not in ("da3_ros.engine", "da3_ros.budget"):  # the latter asks what a model needs
        touches = ("torch", *(f"da3_core.{wing}" for wing in ("api", "network", "model", "engines", "sharing")))
        assert not {m for m in imported if under(m, *touches)}, "only the engine touches the model"


def test_no_files_import_each_other_in_a_circle() -> None:
    def targets(name: str) -> set[str]:
        """Files that a file imports; `from package import function` imports the package's `__init__`."""
        imported = imports_of(MODULES[name]) & MODULES.keys()
        inner = {m for m in imported if any(other != m and other.startswith(f"{m}.") for other in imported)}
        return imported - inner - {name}

    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in sorted(targets(name)):
                visit(target, (*trail, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("da3_core", {"torch", "numpy", "cv2"}),
        ("da3_core.cli", {"torch", "cv2", "trimesh", "huggingface_hub"}),
        ("da3_core.model.presets", {"torch"}),
        ("da3_core.export", {"torch", "trimesh"}),
    ],
)
def test_heavy_packages_are_imported_where_used(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not forbidden & set(loaded)


# What is private to another package: where it stands, and the pins of the versions that it was checked with.
PRIVATE = {
    "da3_core.bag.rosbags_private": [("requirements.txt", "rosbags")],
    "da3_core.cluster.ray_private": [("requirements.txt", "ray")],
    "da3_core.network.torch_private": [("requirements.txt", "torch")],
    "da3_core.web.app.gradio_private": [("requirements.txt", "gradio")],
    "da3_ros.rclpy_private": [
        ("ros_wheels/requirements-kilted.txt", "ros-rclpy"),
        ("ros_wheels/requirements-jazzy.txt", "ros-jazzy-rclpy"),
    ],
}
UNDOCUMENTED = (
    "gradio.networking",
    "rclpy.impl",
    *("rosbags.convert.converter", "rosbags.rosbag1.reader", "rosbags.rosbag2.errors", "rosbags.rosbag2.metadata"),
    *("rosbags.rosbag2.storage_mcap", "rosbags.rosbag2.storage_sqlite3"),
)
DOCUMENTED = {"_exit", "_replace"}  # of os and of named tuples


def private_names(path: Path) -> set[str]:
    """Every `_name` that a file reaches for, on an object or in a module."""
    tree = ast.parse(path.read_text())
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {part for module in imports_of(path) for part in module.split(".")}
    return {name for name in attributes | imported if name.startswith("_") and not name.startswith("__")} - DOCUMENTED


@cache
def our_names() -> frozenset[str]:
    """What our own sources define, on `self` or otherwise."""
    found = set()
    for node in (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Attribute(ctx=ast.Store()):
                found.add(node.attr)
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
    return frozenset(found)


@pytest.mark.parametrize("name", MODULES)
def test_private_interfaces_of_other_packages_stand_in_modules_of_their_own(name: str) -> None:
    undocumented = {module for module in imports_of(MODULES[name]) if under(module, *UNDOCUMENTED)}
    used = undocumented | (private_names(MODULES[name]) - our_names())
    assert bool(used) == (name in PRIVATE), f"{name} uses {sorted(used)}"


@pytest.mark.parametrize("name", PRIVATE)
def test_private_interfaces_were_checked_with_the_pinned_versions(name: str) -> None:
    text = ast.get_docstring(ast.parse(MODULES[name].read_text())) or ""
    for file, package in PRIVATE[name]:
        version = re.search(rf"^{package}==([\d.]+)", (ROOT / file).read_text(), re.MULTILINE)
        assert version
        assert f"{version[1]}" in text, f"{file} has {package} {version[1]}: check what {name} needs of it"


def test_tests_have_names_of_their_own() -> None:
    """Since pytest imports them by these alone."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_source_names_its_licence() -> None:
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [p for p in files if "SPDX-License-Identifier: Apache-2.0" not in p.read_text()[:200]] == []
