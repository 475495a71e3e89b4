# SPDX-License-Identifier: Apache-2.0
"""A scene as one HTML file that needs nothing else: the gallery's viewer with the GLB in it."""

import base64
import html
import re
from pathlib import Path

_TEMPLATE = Path(__file__).parent / "data/scene.html"
_GALLERY = Path(__file__).parents[1] / "web/gallery/static"  # the one viewer there is
_STYLE = "gallery.css"
# In the order in which they need each other.
_MODULES = ("glb.js", "camera.js", "colors.js", "viewer.js", "controls.js")
_IMPORT = re.compile(r'^import (\{[^}]*\}) from ("[^"]+");$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:const|function|class) (\w+))", re.MULTILINE)


def pack_scene(glb: bytes, title: str) -> bytes:
    """The file's bytes; the same scene and title give the same.

    Args:
        glb: as `formats.gltf` writes it.
    """
    parts = {
        "title": html.escape(title),
        "style": (_GALLERY / _STYLE).read_text(encoding="utf-8"),
        "modules": "".join(_as_script(name) for name in _MODULES),
        "scene": base64.b64encode(glb).decode("ascii"),
    }
    page = _TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], page).encode("utf-8")


def _as_script(name: str) -> str:
    """A module in the form of a function, since a page that is opened as a file may load none."""
    text = (_GALLERY / name).read_text(encoding="utf-8")
    exported = ", ".join(found[2] for found in _EXPORT.finditer(text))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = modules[\2];", text))
    return f'modules["./{name}"] = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n'
