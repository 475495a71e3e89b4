# SPDX-License-Identifier: Apache-2.0
"""Intrinsics that somebody knows, for images that come without: a file, a focal length, an angle, or EXIF."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import hypot, radians, tan
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from da3_core.errors import InputError, OptionError
from da3_core.formats.image_files import open_image_file
from da3_core.options import CameraOptions

if TYPE_CHECKING:
    import numpy as np

    from da3_core.ros_data.camera_info import ImageCamera

_EXIF_IFD, _ORIENTATION = 0x8769, 0x0112
_FOCAL_35MM, _FOCAL_MM, _PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA405, 0x920A, 0xA20E, 0xA210
_PIXELS_X, _PIXELS_Y = 0xA002, 0xA003
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0}  # inch, centimetre, millimetre
_DIAGONAL_35MM = 43.2666  # millimetres, of 36 x 24


class GivenCamera:
    """What a `CameraOptions` says about images."""

    def __init__(self, options: CameraOptions, *, apply_exif: bool = False) -> None:
        """Read the file, if one is named.

        Args:
            apply_exif: images are turned upright by their EXIF tag before intrinsics refer to them.

        Raises:
            InputError: the file holds no camera.
        """
        self._options, self._apply_exif = options, apply_exif
        self._matrices: np.ndarray | None = None
        self._info: SimpleNamespace | None = None
        self._by_size: dict[tuple[int, int], ImageCamera] = {}
        if options.intrinsics_file is not None:
            path = Path(options.intrinsics_file)
            if path.suffix.lower() in (".yaml", ".yml"):
                self._info = _read_camera_info(path)
            else:
                self._matrices = _read_matrices(path)

    def of_files(self, paths: Sequence[os.PathLike[str]]) -> np.ndarray:
        """`(N, 3, 3)` float64 of image files, in their pixels, pixel edges at integers.

        Raises:
            InputError: this is not the camera of one of them, or its EXIF tags tell no focal length.
        """
        import numpy as np

        return np.stack([self._of_file(path, number, len(paths)) for number, path in enumerate(paths)])

    def _of_file(self, path: os.PathLike[str], number: int, count: int) -> np.ndarray:
        height, width, exif_focal_px = self._look_at(path)
        if self._options.focal_from_exif:
            return _pinhole(_known(exif_focal_px, path), height, width)
        cameras, file = 1 if self._matrices is None else len(self._matrices), self._options.intrinsics_file
        if cameras not in (1, count):
            raise InputError(f"{file} holds {cameras} cameras for {count} images: give one for all, or one for each")
        camera = self._camera((height, width), number % cameras)
        if camera.rectify is not None:
            raise InputError(
                f"{file} is of a lens with distortion: rectify the images first, or give them as a bag or a COLMAP "
                "folder, which are rectified here"
            )
        return camera.intrinsics

    def of_size(self, size_hw: tuple[int, int]) -> ImageCamera:
        """The camera of `size_hw` images of a bag.

        Raises:
            InputError: it is not theirs.
        """
        if size_hw not in self._by_size:  # maps of a rectification are costly
            self._by_size = {size_hw: self._camera(size_hw, 0)}
        return self._by_size[size_hw]

    def _camera(self, size_hw: tuple[int, int], number: int) -> ImageCamera:
        from da3_core.geometry.cameras import camera_fault
        from da3_core.ros_data.camera_info import ImageCamera, image_camera

        height, width = size_hw
        if self._options.focal_px is not None:
            return ImageCamera(_pinhole(self._options.focal_px, height, width))
        if self._options.hfov_deg is not None:
            return ImageCamera(_pinhole(width / 2 / tan(radians(self._options.hfov_deg) / 2), height, width))
        if self._info is not None:
            camera = image_camera(self._info, size_hw)
            if camera is None:
                raise InputError(f"{self._options.intrinsics_file} is not calibrated: its camera matrix is 0")
            return camera
        assert self._matrices is not None
        if (fault := camera_fault(self._matrices[number], size_hw)) is not None:
            raise InputError(
                f"{self._options.intrinsics_file} is no camera of {width}x{height} pixels: it has {fault[1]}"
            )
        return ImageCamera(self._matrices[number])

    def size_of(self, path: os.PathLike[str]) -> tuple[int, int]:
        """Width and height of the image that the intrinsics of a file are for."""
        height, width, _ = self._look_at(path)
        return width, height

    def _look_at(self, path: os.PathLike[str]) -> tuple[int, int, float | None]:
        """Height and width as intrinsics take them, and the focal length in pixels by EXIF."""
        try:
            with open_image_file(path) as image:
                exif, (width, height) = image.getexif(), image.size
            focal_px = _focal_length_px(dict(exif), exif.get_ifd(_EXIF_IFD), width, height)
        except Exception as error:  # decoders raise almost anything at odd tags
            raise InputError(f"the size and the EXIF tags of {path} cannot be read: replace the file") from error
        if self._apply_exif and exif.get(_ORIENTATION, 1) in (5, 6, 7, 8):
            width, height = height, width
        return height, width, focal_px


def given_camera(options: CameraOptions, *, apply_exif: bool = False) -> GivenCamera | None:
    """None where nothing is given.

    Raises:
        InputError: as `GivenCamera`.
    """
    return GivenCamera(options, apply_exif=apply_exif) if options.is_given else None


def _pinhole(focal_px: float, height: int, width: int) -> np.ndarray:
    import numpy as np

    return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])


def _known(focal_px: float | None, path: os.PathLike[str]) -> float:
    if focal_px is None:
        raise OptionError(
            "{focal_from_exif}: the EXIF tags of {path} tell no focal length in pixels: give {focal_px} or {hfov_deg}",
            path=str(path),
        )
    return focal_px


def _focal_length_px(tags: dict[int, object], details: dict[int, object], width: int, height: int) -> float | None:
    """By the 35 mm equivalent, which is about the diagonal, else by the pitch of the pixels on the sensor."""

    def number(tag: int) -> float:
        try:
            return float(details.get(tag, tags.get(tag, 0)))  # type: ignore[arg-type]
        except (TypeError, ValueError, ZeroDivisionError):
            return 0.0

    if number(_FOCAL_35MM) > 0:
        return number(_FOCAL_35MM) / _DIAGONAL_35MM * hypot(width, height)
    mm_per_unit = _MM_PER_UNIT.get(int(number(_PLANE_UNIT)), _MM_PER_UNIT[2])
    if not (number(_FOCAL_MM) > 0 and number(_PLANE_X_RESOLUTION) > 0):
        return None
    pixels = max(number(_PIXELS_X), number(_PIXELS_Y))
    resized = max(width, height) / pixels if pixels > 0 else 1.0  # whichever way up
    return number(_FOCAL_MM) * number(_PLANE_X_RESOLUTION) / mm_per_unit * resized


def _read_matrices(path: Path) -> np.ndarray:
    import numpy as np

    try:
        rows = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the camera matrix {path} ({error}): give three lines of three numbers"
        ) from error
    if rows.shape[1:] != (3,) or len(rows) % 3 or not len(rows):
        raise InputError(f"{path} holds {rows.shape[0]} x {rows.shape[1]} numbers: give three lines of three a camera")
    return np.asarray(rows, np.float64).reshape(-1, 3, 3)


def _read_camera_info(path: Path) -> SimpleNamespace:
    """A calibration file of ROS as the fields of a CameraInfo."""
    import numpy as np
    import yaml

    try:
        said = yaml.safe_load(path.read_text())
        k, d = (np.array(said[name]["data"], np.float64) for name in ("camera_matrix", "distortion_coefficients"))
        r, p = (
            np.array(said[name]["data"] if name in said else default, np.float64).ravel()
            for name, default in (("rectification_matrix", np.eye(3)), ("projection_matrix", np.zeros(12)))
        )
        height, width = int(said["image_height"]), int(said["image_width"])
        model = str(said.get("distortion_model", "plumb_bob"))
        if (k.size, r.size, p.size) != (9, 9, 12):
            raise ValueError("matrices of other sizes than 3x3, 3x3 and 3x4")
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): give a camera_info file of ROS") from error
    except (yaml.YAMLError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is no camera_info file of ROS ({error}): camera_calibration writes them") from error
    roi = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    fields = {"k": k, "d": d, "r": r, "p": p, "height": height, "width": width, "distortion_model": model}
    return SimpleNamespace(**fields, roi=roi, binning_x=0, binning_y=0)
