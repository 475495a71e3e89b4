# SPDX-License-Identifier: Apache-2.0
"""A result kept in the gallery, as `<gallery>/<group>/<scene>/`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from da3_core.errors import InputError
from da3_core.storage.allowed_folders import AllowedFolders, NotAllowedError
from da3_core.storage.staging import staged_within

_KEPT = ("scene.glb", "scene.jpg", "depth_vis", "gs_video", "gs_ply", "predictions.npz")
_LONGEST = 64


def sanitise_name(name: str, what: str) -> str:
    """A folder's name from what a person typed: letters, digits, spaces and `-_.()`; other characters become `_`.

    Raises:
        InputError: nothing is left; `what` says what was to be named.
    """
    clean = re.sub(r"[^\w \-.()]+", "_", name).strip(" ._")[:_LONGEST].rstrip(" .")
    if not clean:
        raise InputError(f"{name!r} cannot be the name of a {what}: use letters or digits")
    return clean


def save_scene(result: Path, gallery: Path, group: str, scene: str) -> Path:
    """Copy the files of a result; they appear in the gallery all at once.

    Raises:
        InputError: a name is unusable or taken, or the folder cannot be written.
    """
    group, scene = sanitise_name(group, "group"), sanitise_name(scene, "scene")
    if not (result / "scene.glb").is_file():
        raise InputError("there is no point cloud to save: reconstruct one first")
    target = gallery / group / scene
    taken = InputError(f"the gallery has a scene {scene!r} in the group {group!r} already: choose another name")
    if target.exists():
        raise taken
    try:
        with (
            AllowedFolders.of_gallery(gallery).opened(target.parent) as folder,
            staged_within(folder, scene) as staging,
        ):
            for name in _KEPT:
                source = result / name
                if source.is_dir():
                    shutil.copytree(source, staging / name)
                elif source.is_file():
                    shutil.copyfile(source, staging / name)
    except NotAllowedError as error:
        raise InputError(f"the group {group!r} leads out of the gallery: choose another name") from error
    except OSError as error:
        if target.exists():  # somebody was faster
            raise taken from error
        raise InputError(f"the scene cannot be saved in {group!r} ({error.strerror}): tell who runs the app") from error
    return target
