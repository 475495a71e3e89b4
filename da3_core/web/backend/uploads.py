# SPDX-License-Identifier: Apache-2.0
"""Images that come over the network, for those who share no disk with the backend."""

from __future__ import annotations

import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from da3_core.errors import InputError
from da3_core.storage.allowed_folders import AllowedFolders
from da3_core.web.uploads import NoRoomError, UploadLimits, UploadRoom


class Uploads:
    """Folders below one, each with the images of an upload and later with their results.

    Attributes:
        root: holds `<id>/images/` and `<id>/results/`.
    """

    def __init__(self, root: Path, limits: UploadLimits) -> None:
        self.root = root
        self._room = UploadRoom(limits)
        self._lock = threading.Lock()
        self._came_at: dict[str, float] = {}
        root.mkdir(exist_ok=True)
        for folder in root.iterdir():  # of an earlier backend, which may have been killed in the middle of one
            self._came_at[folder.name] = folder.stat().st_mtime
            size = sum(file.stat().st_size for file in folder.glob("images/*"))
            with suppress(NoRoomError):
                self._room.take("", folder.name, size)

    def add(self, images: Iterable[tuple[str, BinaryIO]], caller: str = "") -> tuple[str, list[Path], Path]:
        """Keep the images of one scene.

        Args:
            images: name and content of each; only the ending of a name and its harmless characters are kept.
            caller: whom they are counted to.

        Returns:
            The id of the upload, its files in the same order, and the folder for results, which does not exist yet.

        Raises:
            InputError: one of them is no image, or there are none.
            FileTooLargeError, NoRoomError: there is no room for them.
        """
        upload_id = uuid.uuid4().hex
        folder = self.root / upload_id
        (folder / "images").mkdir(parents=True)
        try:
            paths = []
            for i, (name, content) in enumerate(images):
                paths.append(folder / "images" / f"{i:06d}_{_harmless(name)}")
                self._room.keep(caller, upload_id, content, paths[-1])
            if not paths:
                raise InputError("the upload has no files: send each image as a field 'images' of a multipart form")
            allowed = AllowedFolders.of_backend([folder])
            for path in paths:
                allowed.input_image(str(path))
            with self._lock:
                self._came_at[upload_id] = time.time()
        except BaseException:
            self.remove(upload_id)
            raise
        return upload_id, paths, folder / "results"

    def remove(self, upload_id: str) -> None:
        """Delete an upload with its results."""
        shutil.rmtree(self.root / upload_id, ignore_errors=True)
        self._room.give_back(upload_id)
        with self._lock:
            self._came_at.pop(upload_id, None)

    def remove_unused(self, used_paths: Iterable[str], older_than_seconds: float) -> None:
        """Delete uploads of that age with none of these paths in them."""
        latest = time.time() - older_than_seconds
        with self._lock:
            old = {upload_id for upload_id, came_at in self._came_at.items() if came_at <= latest}
        used = {part for path in used_paths for part in Path(path).parts}
        for upload_id in old - used:
            self.remove(upload_id)


def _harmless(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", Path(name.replace("\\", "/")).name, flags=re.ASCII)[-64:]
