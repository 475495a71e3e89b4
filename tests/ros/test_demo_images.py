# SPDX-License-Identifier: Apache-2.0
"""Images as a camera, and the choice among what several maps say about a frame."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rclpy", reason="needs ROS 2")

from da3_core.bag.messages import typestore
from da3_core.errors import InputError
from da3_ros.demo.image_folder import load_pictures
from da3_ros.demo.recording import Recording


def test_pictures_are_upright_in_natural_order_and_of_one_size(tmp_path: Path) -> None:
    colours = {"2.png": (200, 0, 0), "10.png": (0, 200, 0), "11.jpg": (0, 0, 200)}
    for name, size in (("2.png", (800, 600)), ("10.png", (300, 400)), ("11.jpg", (600, 800))):
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "11.jpg" else 1  # the camera was turned
        Image.new("RGB", size, colours[name]).save(tmp_path / name, exif=exif)
    pictures = load_pictures(tmp_path, 400)
    assert [picture.shape for picture in pictures] == [(300, 400, 3)] * 3
    assert [int(picture.mean((0, 1)).argmax()) for picture in pictures] == [0, 1, 2]
    assert all(picture.std((0, 1)).max() < 3 for picture in pictures), "nothing but the image, to its edges"
    assert [picture.shape for picture in load_pictures(tmp_path, 10_000, 1)] == [(600, 800, 3)]
    (tmp_path / "12.png").write_bytes((tmp_path / "2.png").read_bytes()[:300])
    with pytest.raises(InputError, match=r"12\.png: it cannot be decoded"):
        load_pictures(tmp_path, 400)


@pytest.fixture
def types() -> dict[str, Any]:
    return typestore().types


def image(types: dict[str, Any], values: np.ndarray, encoding: str) -> Any:
    data, (height, width) = values.view(np.uint8).ravel(), values.shape[:2]
    return types["sensor_msgs/msg/Image"](
        header=None, height=height, width=width, encoding=encoding, is_bigendian=0, step=data.size, data=data
    )


def camera_info(types: dict[str, Any]) -> Any:
    """Of one pixel, whose centre the optical axis meets."""
    everything = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return types["sensor_msgs/msg/CameraInfo"](
        header=None,
        height=1,
        width=1,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.diag([1.0, 1.0, 1.0]).ravel(),
        r=np.eye(3).ravel(),
        p=np.eye(3, 4).ravel(),
        binning_x=0,
        binning_y=0,
        roi=everything,
    )


def window(types: dict[str, Any], segment: int, views: dict[int, float | None]) -> Any:
    """A DepthWindow of one-pixel views: seconds of the stamp, and where on x the camera is, or None."""

    def make(name: str, **values: Any) -> Any:
        return types[name](**values)

    def view(second: int, x: float | None) -> Any:
        stamp = make("builtin_interfaces/msg/Time", sec=second, nanosec=0)
        header = make("std_msgs/msg/Header", stamp=stamp, frame_id="camera")
        point = make("geometry_msgs/msg/Point", x=x or 0.0, y=0.0, z=0.0)
        turn = make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=0.0 if x is None else 1.0)
        pose = make("geometry_msgs/msg/Pose", position=point, orientation=turn)
        return make(
            "da3_ros/msg/DepthView",
            header=header,
            camera_info=camera_info(types),
            intrinsics_source=0,
            camera_in_map=pose,
            depth=image(types, np.array([[2.0 + segment]], np.float32), "32FC1"),
            confidence=image(types, np.array([[1.5]], np.float32), "32FC1"),
        )

    return make(
        "da3_ros/msg/DepthWindow",
        header=None,
        model="m",
        views=[view(*each) for each in views.items()],
        scale_m_per_unit=1.0,
        scale_source=0,
        scale_deviation=float("nan"),
        alignment_residual=float("nan"),
        map_segment=segment,
        inference_s=0.0,
    )


def test_every_frame_is_taken_from_the_largest_map_where_it_is_in_it(types: dict[str, Any]) -> None:
    windows = [
        window(types, 0, {1: 0.0, 2: 0.1}),
        window(types, 0, {2: None, 3: None}),
        window(types, 1, {3: 0.5, 4: 0.6, 5: 0.7}),
        window(types, 1, {4: 0.9, 5: 0.9, 6: None}),
    ]
    colour = {stamp * 10**9: image(types, np.full((1, 1, 3), stamp, np.uint8), "rgb8") for stamp in range(1, 7)}
    recording = Recording(windows, colour, {}, {})
    views = recording.views()
    assert [view.header.stamp.sec for view in views] == [1, 2, 3, 4, 5, 6]
    places = [view.camera_in_map.position.x if view.camera_in_map.orientation.w else None for view in views]
    assert places == [None, None, 0.5, 0.6, 0.7, None]
    assert len(Recording(windows, {10**9: colour[10**9]}, {}, {}).views()) == 1

    prediction = recording.prediction()
    assert prediction is not None
    assert prediction.image_names == tuple(f"{second}000000000.png" for second in (3, 4, 5, 6))
    assert prediction.placed.tolist() == [True, True, True, False]
    assert prediction.is_metric == 0
    assert prediction.depth.ravel().tolist() == [3.0] * 4
    assert prediction.processed_images is not None
    assert prediction.processed_images[:, 0, 0, 0].tolist() == [3, 4, 5, 6]
    assert prediction.extrinsics is not None
    forward = np.linalg.inv(prediction.extrinsics[:3])[:, 2, 3]  # x in the map
    np.testing.assert_allclose(forward, [0.5, 0.6, 0.7], rtol=1e-6)


def test_without_a_place_there_is_nothing_to_export(types: dict[str, Any]) -> None:
    colour = {10**9: image(types, np.zeros((1, 1, 3), np.uint8), "rgb8")}
    assert Recording([window(types, 0, {1: None})], colour, {}, {}).prediction() is None
