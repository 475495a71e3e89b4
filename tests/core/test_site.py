# SPDX-License-Identifier: Apache-2.0
"""The site of the documents: it builds without a warning, holds every document, and asks nobody for anything."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_every_document_is_a_page_that_needs_nothing_from_elsewhere(site: Path) -> None:
    documents = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert documents | {"index", "contributing", "quality", "changelog"} <= {path.stem for path in site.glob("*.html")}
    for path in [*site.glob("*.html"), *site.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(https?:[^\"\s>]+)", text)
        assert not loaded, f"{path.name} asks for {loaded}"
        assert not re.findall(r"url\(\"?https?:", text)


@pytest.mark.slow
def test_the_reference_of_python_is_made_of_the_docstrings(site: Path) -> None:
    text = (site / "python.html").read_text(encoding="utf-8")
    for name in ("inference", "from_pretrained", "depth_size", "original_intrinsics", "upsample_guided"):
        assert name in text
    assert "keeps what the network says of it" in " ".join(text.split())  # a sentence of a docstring
    assert ":::" not in text


def test_symptoms_are_told_in_the_words_of_the_code() -> None:
    """What stands in the first column as a message is a message, `…` stands for what it fills in."""
    sources = [path.read_text() for wing in ("da3_core", "da3_ros") for path in (ROOT / wing).rglob("*.py")]
    code = re.sub(r"\"\s*\n\s*f?\"", "", "\n".join(sources))
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]* [^`]*)`", row)]
    assert len(messages) >= 8
    for message in messages:
        for part in filter(None, (each.strip(" :,") for each in message.split("…"))):
            assert part in code, f"nothing says {part!r}"
