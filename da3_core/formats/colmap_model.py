# SPDX-License-Identifier: Apache-2.0
"""COLMAP's sparse model files, text and binary: cameras, images and points as COLMAP documents them.

COLMAP has pixel edges at integers and world-to-camera poses, as everything here.
"""

import math
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.distortion import Lens
from da3_core.geometry.quaternions import quaternion_from_rotation, rotation_from_quaternion

# Name and parameters of every camera model; the place in this table is COLMAP's number of the model.
CAMERA_MODELS: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "OPENCV_FISHEYE": ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4"),
    "FULL_OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "FOV": ("fx", "fy", "cx", "cy", "omega"),
    "SIMPLE_RADIAL_FISHEYE": ("f", "cx", "cy", "k1"),
    "RADIAL_FISHEYE": ("f", "cx", "cy", "k1", "k2"),
    "THIN_PRISM_FISHEYE": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        *("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4", "k5", "k6"),
        *("p2", "p1", "sx1", "sx2", "sy1", "sy2"),
    ),
    "SIMPLE_DIVISION": ("f", "cx", "cy", "k"),
    "DIVISION": ("fx", "fy", "cx", "cy", "k"),
    "SIMPLE_FISHEYE": ("f", "cx", "cy"),
    "FISHEYE": ("fx", "fy", "cx", "cy"),
    "EUCM": ("fx", "fy", "cx", "cy", "alpha", "beta"),
    "EQUIRECTANGULAR": ("width", "height"),
}
_MOST_QUOTED = 300  # characters of what is wrong, which a file may make as long as it likes
PANORAMA = "EQUIRECTANGULAR"
_NAMES = list(CAMERA_MODELS)

# One observation of a point in an image, and one point that is seen once, as the binary files hold them.
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
_POINT = np.dtype("<u8, (3,)<f8, (3,)u1, <f8, <u8, <i4, <i4")
_POINT.names = ("id", "xyz", "rgb", "error", "length", "image", "observation")


@dataclass(frozen=True)
class Camera:
    """A camera: `width` and `height` in pixels, parameters in the order of `CAMERA_MODELS`."""

    id: int
    model: str
    width: int
    height: int
    parameters: tuple[float, ...]

    def named_parameters(self) -> dict[str, float]:
        return dict(zip(CAMERA_MODELS[self.model], self.parameters, strict=True))

    def intrinsics(self) -> np.ndarray:
        """`(3, 3)` float64, distortion left out."""
        values = self.named_parameters()
        fx, fy = values.get("fx", values.get("f")), values.get("fy", values.get("f"))
        return np.array([[fx, 0, values["cx"]], [0, fy, values["cy"]], [0, 0, 1]], np.float64)

    def lens(self) -> Lens:
        """The distortion, which `intrinsics` leaves out."""
        values = self.named_parameters()

        def of(*names: str) -> tuple[float, ...]:
            return tuple(values.get(name, 0.0) for name in names)

        if self.model == "FOV":
            return Lens("fov", shape=of("omega"))
        if self.model == "EUCM":
            return Lens("eucm", shape=of("alpha", "beta"))
        if "DIVISION" in self.model:
            return Lens("division", shape=of("k"))
        is_rational = self.model == "FULL_OPENCV"
        p1, p2, sx1, sx2, sy1, sy2 = of("p1", "p2", "sx1", "sx2", "sy1", "sy2")
        return Lens(
            "fisheye" if "FISHEYE" in self.model else "polynomial",
            radial=of("k1", "k2", "k3") if is_rational else of("k1", "k2", "k3", "k4", "k5", "k6"),
            denominator=of("k4", "k5", "k6") if is_rational else (),
            tangential=(p1, p2),
            prism=(sx1, sx2, sy1, sy2),
            stretched_first=self.model == "RAD_TAN_THIN_PRISM_FISHEYE",
        )


@dataclass(frozen=True, eq=False)
class Image:
    """An image, its camera's pose and, in a model to be written, where it sees which points.

    Attributes:
        world_to_camera: `(4, 4)` float64.
        observations: `(P, 2)` pixels.
        point_ids: `(P,)` the points seen there.
    """

    id: int
    camera_id: int
    name: str
    world_to_camera: np.ndarray
    observations: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    point_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def pose(self) -> tuple[float, ...]:
        """Quaternion w x y z and translation, world to camera."""
        x, y, z, w = quaternion_from_rotation(self.world_to_camera[:3, :3]).tolist()
        return (w, x, y, z, *self.world_to_camera[:3, 3].tolist())


@dataclass(frozen=True, eq=False)
class Points:
    """`P` points, each seen by one image: `(P,)` ids, `(P, 3)` positions and uint8 colours, `(P,)` id of the image and
    `(P,)` number of the observation in it."""

    ids: np.ndarray
    positions: np.ndarray
    colors: np.ndarray
    image_ids: np.ndarray
    observation_numbers: np.ndarray


def write_binary(folder: Path, cameras: Sequence[Camera], images: Sequence[Image], points: Points) -> None:
    """Writes `cameras.bin`, `images.bin` and `points3D.bin`."""
    with (folder / "cameras.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(cameras)))
        for camera in cameras:
            file.write(struct.pack("<iiQQ", camera.id, _NAMES.index(camera.model), camera.width, camera.height))
            file.write(struct.pack(f"<{len(camera.parameters)}d", *camera.parameters))
    with (folder / "images.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(images)))
        for image in images:
            file.write(struct.pack("<i7di", image.id, *image.pose(), image.camera_id))
            file.write(image.name.encode() + b"\0" + struct.pack("<Q", len(image.observations)))
            rows = np.zeros(len(image.observations), _OBSERVATION)
            rows["xy"], rows["point"] = image.observations, image.point_ids
            file.write(rows.tobytes())
    with (folder / "points3D.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(points.ids)))
        rows = np.zeros(len(points.ids), _POINT)
        rows["id"], rows["xyz"], rows["rgb"], rows["length"] = points.ids, points.positions, points.colors, 1
        rows["image"], rows["observation"] = points.image_ids, points.observation_numbers
        file.write(rows.tobytes())


def write_text(folder: Path, cameras: Sequence[Camera], images: Sequence[Image], points: Points) -> None:
    """Writes `cameras.txt`, `images.txt` and `points3D.txt`; numbers lose nothing."""
    with (folder / "cameras.txt").open("w", encoding="utf-8") as file:
        file.write("# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]\n")
        for camera in cameras:
            file.write(f"{camera.id} {camera.model} {camera.width} {camera.height} {_join(camera.parameters)}\n")
    with (folder / "images.txt").open("w", encoding="utf-8") as file:
        file.write("# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of X Y POINT3D_ID\n")
        for image in images:
            file.write(f"{image.id} {_join(image.pose())} {image.camera_id} {image.name}\n")
            rows = zip(image.observations.tolist(), image.point_ids.tolist(), strict=True)
            file.write(" ".join(f"{x!r} {y!r} {point}" for (x, y), point in rows) + "\n")
    with (folder / "points3D.txt").open("w", encoding="utf-8") as file:
        file.write("# POINT3D_ID X Y Z R G B ERROR, then IMAGE_ID POINT2D_IDX of each observation\n")
        columns = (points.ids, points.positions, points.colors, points.image_ids, points.observation_numbers)
        for point, position, color, image_id, number in zip(*(c.tolist() for c in columns), strict=True):
            file.write(f"{point} {_join(position)} {_join(color)} 0 {image_id} {number}\n")


def _join(numbers: Sequence[float]) -> str:
    return " ".join(map(repr, numbers))


def read_model(folder: Path) -> tuple[dict[int, Camera], list[Image]]:
    """Cameras by id, and images in the order of the file without their observations; binary files go before text.

    Raises:
        InputError: the files are absent, cut off, or hold something that COLMAP does not write.
    """
    complete = [
        suffix
        for suffix in (".bin", ".txt")
        if all((folder / f"{name}{suffix}").is_file() for name in ("cameras", "images"))
    ]
    if not complete:
        raise InputError(f"no COLMAP model in {folder}: it must hold cameras and images, as .bin or as .txt")
    read_cameras, read_images = _READERS[complete[0]]
    try:
        cameras = {camera.id: camera for camera in read_cameras(folder / f"cameras{complete[0]}")}
        images = list(read_images(folder / f"images{complete[0]}"))
        for image in images:
            if image.camera_id not in cameras:
                raise ValueError(f"image {image.name!r} names camera {image.camera_id}, which is not there")
            _check_camera(cameras[image.camera_id])
    except InputError:
        raise
    except (struct.error, ValueError, IndexError) as error:
        why = str(error)[:_MOST_QUOTED]
        raise InputError(f"the COLMAP model in {folder} cannot be read ({why}): export it again") from error
    return cameras, images


def _read_cameras_binary(path: Path) -> Iterator[Camera]:
    with path.open("rb") as file:
        for _ in range(_unpack(file, "<Q")[0]):
            camera_id, number, width, height = _unpack(file, "<iiQQ")
            if not 0 <= number < len(_NAMES):
                raise ValueError(f"camera {camera_id} has the unknown model {number}")
            parameters = _unpack(file, f"<{len(CAMERA_MODELS[_NAMES[number]])}d")
            yield Camera(camera_id, _NAMES[number], width, height, parameters)


def _read_images_binary(path: Path) -> Iterator[Image]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(_unpack(file, "<Q")[0]):
            image_id, *pose, camera_id = _unpack(file, "<i7di")
            name = b""
            while (character := file.read(1)) != b"\0":
                if not character:
                    raise ValueError("the file ends within a name")
                name += character
            (observations,) = _unpack(file, "<Q")
            if observations * _OBSERVATION.itemsize > size:
                raise ValueError(f"image {image_id} has more observations than the file holds")
            file.seek(observations * _OBSERVATION.itemsize, 1)
            yield _image(image_id, pose, camera_id, name.decode())


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _read_cameras_text(path: Path) -> Iterator[Camera]:
    for line in _lines(path):
        if line.strip():
            camera_id, model, width, height, *parameters = line.split()
            if len(parameters) != len(CAMERA_MODELS.get(model, ())):
                raise ValueError(
                    f"camera {camera_id} has the unknown model {model!r} or the wrong number of parameters"
                )
            yield Camera(int(camera_id), model, int(width), int(height), tuple(map(float, parameters)))


def _read_images_text(path: Path) -> Iterator[Image]:
    lines = iter(_lines(path))
    for line in lines:
        while line and line.strip():
            image_id, *pose, camera_id, name = line.split(maxsplit=9)
            yield _image(int(image_id), tuple(map(float, pose)), int(camera_id), name)
            # The line after it lists its observations. It may be empty, and some writers leave it out.
            line = next(lines, "")
            if _lists_observations(line):
                break


def _lines(path: Path) -> list[str]:
    """Without comments, and without the mark that some editors put before the first."""
    return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if not line.startswith("#")]


def _lists_observations(line: str) -> bool:
    """Whether there are only numbers, three each."""
    words = line.split()
    try:
        return len(words) % 3 == 0 and all(math.isfinite(float(word)) for word in words)
    except ValueError:
        return False


def _check_camera(camera: Camera) -> None:
    """Raises ValueError for a camera that takes no image. One that no image names may be anything."""
    if camera.model == PANORAMA:
        raise InputError(
            f"camera {camera.id} of the COLMAP model is a panorama ({PANORAMA}), which no pinhole camera replaces: cut "
            "its images into perspective ones with COLMAP"
        )
    focal_lengths = camera.intrinsics()[[0, 1], [0, 1]]
    if not (np.isfinite(camera.parameters).all() and (focal_lengths > 0).all() and camera.width and camera.height):
        raise ValueError(f"camera {camera.id} is {camera.width}x{camera.height} with parameters {camera.parameters}")


def _image(image_id: int, pose: Sequence[float], camera_id: int, name: str) -> Image:
    w, x, y, z, *translation = pose
    if not np.isfinite(pose).all() or not any(pose[:4]):
        raise ValueError(f"image {name!r} has the pose {tuple(pose)}")
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = rotation_from_quaternion(np.array([x, y, z, w]))
    world_to_camera[:3, 3] = translation
    return Image(image_id, camera_id, name, world_to_camera)


_READERS = {".bin": (_read_cameras_binary, _read_images_binary), ".txt": (_read_cameras_text, _read_images_text)}
