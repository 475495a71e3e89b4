# SPDX-License-Identifier: Apache-2.0
"""Where images come from: one small module per kind of input, each a `Source`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from da3_core.storage.allowed_folders import AllowedFile


@dataclass(frozen=True, eq=False)
class SceneImages:
    """Image files of one scene, and their cameras where known.

    Attributes:
        images: `N` files, in the order of the prediction; a path that opens its file itself is asked to.
        extrinsics: `(N, 4, 4)` world-to-camera, OpenCV axes, or None.
        intrinsics: `(N, 3, 3)` in pixels of the files, pixel edges at integers, or None.
        stamps_ns: `(N,)` int64 times of exposure, nanoseconds since any moment, or None.
    """

    images: tuple[Path | AllowedFile, ...]
    extrinsics: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    stamps_ns: np.ndarray | None = None


class Source(Protocol):
    """An input that has been looked at and found usable; what it needs decoding is read later."""

    @property
    def path(self) -> Path:
        """What the user named."""

    @property
    def views(self) -> int:
        """How many images the scene will have."""

    @property
    def has_cameras(self) -> bool:
        """Whether the scene will come with extrinsics and intrinsics."""

    def read(self, make_folder: Callable[[], Path], advance: Callable[[int], object]) -> SceneImages:
        """The scene. Images that are no files yet are written below the folder that `make_folder` provides.

        `advance(n)` is told when `n` more views are ready.
        """
