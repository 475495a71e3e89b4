# SPDX-License-Identifier: Apache-2.0
"""What the documents and the heads of modules name is there: files, sections, modules and functions."""

import ast
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from da3_core.ros_data.outputs import OUTPUTS
from da3_ros.parameters import TABLE

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "*.rst", "docs/**/*.md", "training/*.md", "tests/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
SOURCES = sorted(path for wing in ("da3_core", "da3_ros") for path in (ROOT / wing).rglob("*.py"))
TREES = ("da3_core", "da3_ros", "tests", "docs", "benchmarks", "training", "scripts", "config", "launch", "msg", "srv")
# `da3_core/pipeline.py`, `tests/graph`, `docs/bags.md`: what starts with a folder of this repository.
MESSAGE_TYPE = re.compile(r"da3_ros/[A-Z]\w+")
GENERATED = {"benchmarks/results.json"}
PATH = re.compile(rf"`((?:{'|'.join(TREES)}|action|ros_wheels|\.ci|\.github)/[\w./*-]+)`")
# `stream/session.py`: short for a path below a package, as in the map of docs/architecture.md.
SHORT = re.compile(r"`([a-z_]+(?:/[a-z_]+)*\.py)(?:::(\w+(?:\.\w+)?))?`")
TOPS = ("", "da3_core/", "da3_ros/", "benchmarks/", "training/")
COMMAND = re.compile(r"python (benchmarks/\w+\.py)|python -m ((?:benchmarks|training|da3_ros|da3_core)[\w.]*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MODULE = re.compile(r"`(da3_(?:core|ros)(?:\.\w+)+)`")


def anchors(document: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{document.name} links to {target}"
        if anchor:
            assert anchor in anchors(path), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_and_commands_exist(document: Path) -> None:
    text = document.read_text()
    paths = [name for name in PATH.findall(text) if not MESSAGE_TYPE.fullmatch(name) and name not in GENERATED]
    missing = [name for name in paths if not list(ROOT.glob(name.rstrip("/")))]
    for script, module in COMMAND.findall(text):
        file = script or module.replace(".", "/")
        if not any((ROOT / each).exists() for each in (file, f"{file}.py", f"{file}/__main__.py")):
            missing.append(script or module)
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_named_by_file_exist(document: Path) -> None:
    for name, function in SHORT.findall(document.read_text()):
        files = [
            path for top in ("", "da3_core/", "da3_ros/", "benchmarks/", "training/") for path in ROOT.glob(top + name)
        ]
        assert files, f"{document.name} names {name}"
        if function:
            assert any(defines(path, function) for path in files), f"{document.name} names {name}::{function}"


def test_topics_services_and_parameters_named_for_the_node_exist() -> None:
    outputs = {each.topic("~") for each in OUTPUTS}
    code = "".join(path.read_text() for path in (ROOT / "da3_ros").glob("*.py"))
    groups = {name.partition(".")[0] for name in TABLE if "." in name}
    for document in (ROOT / "README.md", ROOT / "docs/node.md"):
        text = document.read_text()
        topics = {name for name in re.findall(r"`(~/\w[\w/]*\w)`", text) if not name.startswith("~/da3_")}
        assert not {name for name in topics - outputs if f'"{name}"' not in code}, document.name
        given = re.findall(r"`((\w+)\.\w+)(?::=[^`]*)?`", text)
        assert not {name for name, group in given if group in groups} - TABLE.keys(), document.name


def defines(path: Path, name: str) -> bool:
    """Whether a file defines a function, a class, or `Class.method`."""
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for part in name.split("."):
        found = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == part
        ]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_named_in_docstrings_exist(path: Path) -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    for name in MODULE.findall("\n".join(filter(None, map(ast.get_docstring, nodes)))):
        module, _, attribute = name.rpartition(".")
        file = ROOT / (module.replace(".", "/") + ".py")
        package = ROOT / module.replace(".", "/") / "__init__.py"
        known = [f for f in (file, package) if f.exists() and defines(f, attribute)]
        assert known or find_spec(name), f"{path.name} names {name}"


def test_no_document_names_a_place_of_one_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [ROOT / name for name in tracked if name.endswith((".md", ".rst", ".py", ".toml", ".yaml", ".yml", ".sh"))]
    assert texts
    personal = re.compile(r"/(?:home|Users)/\w+/")
    assert not [p for p in texts if p != Path(__file__) and p.exists() and personal.search(p.read_text())]
