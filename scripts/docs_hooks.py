# SPDX-License-Identifier: Apache-2.0
"""Pages of the site that lie outside `docs/`, and links between these and the others; see `mkdocs.yml`."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "QUALITY_DECLARATION.md": "quality.md",
    "CHANGELOG.rst": "changelog.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are kept at the top of the repository."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_from_rst(text) if name.endswith(".rst") else text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as they are in the repository become those of the site; what the site has not becomes its name."""
    top = page.file.src_uri in PAGES.values()

    def moved(found: re.Match[str]) -> str:
        picture, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        place = target.removeprefix("docs/") if top else target
        place = PAGES.get(place.removeprefix("../"), place)
        if files.get_file_from_path(place):
            return f"{picture}[{text}]({place}{anchor})"
        named = target.removeprefix("../").rstrip("/")
        return text if text == named else f"{text} (`{named}`)"

    return _LINK.sub(moved, markdown)


def _from_rst(text: str) -> str:
    """The little of reStructuredText that the list of changes uses."""
    text = re.sub(r"^\^+\n(.*)\n\^+$", r"# \1", text, flags=re.MULTILINE)
    text = re.sub(r"^(.+)\n-{3,}$", r"## \1\n", text, flags=re.MULTILINE)
    return text.replace("``", "`")
