# SPDX-License-Identifier: Apache-2.0
"""The gallery: a folder of exported scenes as pages to look at, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette


def gallery_app(root: Path, prefix: str = "") -> Starlette:
    """The gallery as an ASGI application that only reads.

    Args:
        root: folder with scenes in it, or with groups of scenes; what lies outside is never served.
        prefix: where a larger application mounts this one, such as `/gallery`.
    """
    from da3_core.web.gallery.app import make_app

    return make_app(root, prefix)
