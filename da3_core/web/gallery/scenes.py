# SPDX-License-Identifier: Apache-2.0
"""The scenes below a folder, and which of their files may leave it."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from da3_core.storage.allowed_folders import AllowedFolders, NotAllowedError

MEDIA_TYPES = {
    ".glb": "model/gltf-binary",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".mp4": "video/mp4",
    ".ply": "application/octet-stream",
    ".npz": "application/octet-stream",
    ".json": "application/json",
}
ROOT_GROUP = "_root"  # of the scenes that are in no group; a folder of this name is not looked into
_DEPTH_IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_DOWNLOADS = ("*.npz", "exports/*/*.npz", "*.ply", "gs_ply/*.ply", "*.mp4", "gs_video/*.mp4", "feat_vis/*.mp4")
# Hidden, a way up, what is another separator elsewhere, control characters, and bytes that are no UTF-8.
_UNFIT_NAME = re.compile(r"\A\Z|\A\.|[\\\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Group:
    """Scenes that are shown together."""

    id: str
    title: str


@dataclass(frozen=True)
class GalleryScene:
    """A folder with a model and its image.

    Attributes:
        path: of the folder, relative to the gallery.
    """

    id: str
    title: str
    path: Path

    @property
    def model(self) -> Path:
        return self.path / "scene.glb"

    @property
    def thumbnail(self) -> Path:
        return self.path / "scene.jpg"


class Gallery:
    """Looks at the disk at every call, so that a new scene shows at once.

    Attributes:
        root: the folder, absolute and without links: no file outside is listed or opened, whatever links say.
    """

    def __init__(self, root: Path) -> None:
        self._allowed = AllowedFolders.of_gallery(root)
        self.root = self._allowed.root

    def groups(self) -> list[Group]:
        """By name; the scenes outside any group are the first."""
        named = [
            Group(folder.name, folder.name)
            for folder in self._folders(self.root)
            if folder.name != ROOT_GROUP and any(map(self._is_scene, self._folders(folder)))
        ]
        return [Group(ROOT_GROUP, "Scenes"), *named] if self._scene_folders(ROOT_GROUP) else named

    def scenes(self, group: str) -> list[GalleryScene]:
        """By name; none if there is no such group."""
        return [self._scene(folder) for folder in self._scene_folders(group)]

    def depth_images(self, scene: GalleryScene) -> list[Path]:
        """By name, relative to the root."""
        files = (self.root / scene.path / "depth_vis").glob("*")
        return self._served(sorted(file for file in files if file.suffix.lower() in _DEPTH_IMAGES))

    def downloads(self, scene: GalleryScene) -> list[Path]:
        """Data, clouds and videos, relative to the root."""
        folder = self.root / scene.path
        return self._served(file for pattern in _DOWNLOADS for file in sorted(folder.glob(pattern)))

    def open_file(self, url_path: str) -> BinaryIO | None:
        """The file of a scene that a path names, to be closed; None for everything that is not to be served."""
        names = url_path.split("/")
        if any(map(_UNFIT_NAME.search, names)):
            return None
        # A scene is the root, a folder in it, or a folder in such a folder.
        if not any(self._is_scene(self.root.joinpath(*names[:depth])) for depth in range(min(3, len(names)))):
            return None
        path = self.root.joinpath(*names)
        if not self._is_served(path):
            return None
        try:
            return self._allowed.open_file(path)
        except (OSError, NotAllowedError):
            return None  # gone or become a link just now, or not ours to read

    def _scene_folders(self, group: str) -> list[Path]:
        """Asks the disk for no name that was not read from it."""
        if group == ROOT_GROUP:
            return list(filter(self._is_scene, [self.root, *self._folders(self.root)]))
        parents = [folder for folder in self._folders(self.root) if folder.name == group]
        return [folder for parent in parents for folder in self._folders(parent) if self._is_scene(folder)]

    def _scene(self, folder: Path) -> GalleryScene:
        if folder == self.root:
            return GalleryScene(".", self.root.name.encode(errors="replace").decode() or "/", Path())
        return GalleryScene(folder.name, folder.name, folder.relative_to(self.root))

    def _served(self, files: Iterable[Path]) -> list[Path]:
        """Those of a scene that `open_file` opens, relative to the root."""
        paths = (file.relative_to(self.root) for file in files if self._is_served(file))
        return [path for path in paths if not any(map(_UNFIT_NAME.search, path.parts))]

    def _folders(self, parent: Path) -> list[Path]:
        try:
            children = sorted(parent.iterdir())
        except OSError:
            return []  # not ours to read
        return [
            child
            for child in children
            if not _UNFIT_NAME.search(child.name) and os.path.isdir(child) and self._real(child)
        ]

    def _is_scene(self, folder: Path) -> bool:
        return all(self._is_served(folder / name) for name in ("scene.glb", "scene.jpg"))

    def _is_served(self, path: Path) -> bool:
        """Whether a file really is below the root, not hidden, and of a type that is served."""
        real = self._real(path)
        if real is None or not {path.suffix.lower(), real.suffix.lower()} <= MEDIA_TYPES.keys():
            return False
        return os.path.isfile(real)

    def _real(self, path: Path) -> Path | None:
        try:
            return self._allowed.confined(path)
        except NotAllowedError:
            return None
