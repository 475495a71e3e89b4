# SPDX-License-Identifier: Apache-2.0
"""Messages of Foxglove and of ffmpeg_image_transport, under the names that the fields have in messages of ROS."""

from __future__ import annotations

import base64
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

VIDEO = "foxglove_msgs/msg/CompressedVideo"
PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
FOXGLOVE_PREFIXES = ("foxglove.", "foxglove_msgs/msg/")


def ros_type_of(type_name: str) -> str | None:
    """The type whose fields `as_ros` gives; None for a type that it does not know."""
    known = _CONVERSIONS.get(_short(type_name))
    return known[0] if known else None


def as_ros(type_name: str, message: Any) -> Any:
    """The message with a `header`, and the rest as the type of ROS calls it; one of another type as it came.

    Args:
        message: an object, of Protobuf or ROS, or the content of a JSON object.
    """
    known = _CONVERSIONS.get(_short(type_name))
    return known[1](_with_attributes(message)) if known else message


def _short(type_name: str) -> str:
    prefix = next((each for each in FOXGLOVE_PREFIXES if type_name.startswith(each)), None)
    return type_name.removeprefix(prefix) if prefix else type_name if type_name == PACKET else ""


def _with_attributes(content: Any) -> Any:
    if isinstance(content, dict):
        return SimpleNamespace(**{name: _with_attributes(value) for name, value in content.items()})
    return [_with_attributes(each) for each in content] if isinstance(content, list) else content


def _header(message: Any, frame_id: str) -> SimpleNamespace:
    """The time is `sec` and `nanosec`, in Protobuf `seconds` and `nanos`, in JSON `sec` and `nsec`."""
    time = message.timestamp
    sec = time.seconds if hasattr(time, "seconds") else time.sec
    nanosec = next(getattr(time, name) for name in ("nanosec", "nanos", "nsec") if hasattr(time, name))
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)


def _data(message: Any) -> Any:
    return base64.b64decode(message.data) if isinstance(message.data, str) else message.data


def _compressed(message: Any) -> SimpleNamespace:
    """An image or a piece of a video."""
    return SimpleNamespace(header=_header(message, message.frame_id), format=message.format, data=_data(message))


def _image(message: Any) -> SimpleNamespace:
    return SimpleNamespace(
        header=_header(message, message.frame_id),
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        is_bigendian=False,
        step=message.step,
        data=_data(message),
    )


def _packet(message: Any) -> SimpleNamespace:
    return SimpleNamespace(header=message.header, format=message.encoding, data=message.data)


def _camera_info(message: Any) -> SimpleNamespace:
    matrices = {name: list(_either(message, name, name.upper())) for name in "dkrp"}
    sizes = {"k": 9, "r": 9, "p": 12}
    whole = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return SimpleNamespace(
        header=_header(message, message.frame_id),
        height=message.height,
        width=message.width,
        distortion_model=message.distortion_model,
        **{name: values or [0.0] * sizes.get(name, 0) for name, values in matrices.items()},
        binning_x=0,
        binning_y=0,
        roi=whole,
    )


def _either(message: Any, name: str, other: str) -> Any:
    return getattr(message, name) if hasattr(message, name) else getattr(message, other)


def _transforms(message: Any) -> SimpleNamespace:
    return SimpleNamespace(transforms=[_transform(each) for each in message.transforms])


def _transform(message: Any) -> SimpleNamespace:
    return SimpleNamespace(
        header=_header(message, message.parent_frame_id),
        child_frame_id=message.child_frame_id,
        transform=SimpleNamespace(translation=message.translation, rotation=message.rotation),
    )


_CONVERSIONS: dict[str, tuple[str, Callable[[Any], SimpleNamespace]]] = {
    "CompressedImage": ("sensor_msgs/msg/CompressedImage", _compressed),
    "RawImage": ("sensor_msgs/msg/Image", _image),
    "CompressedVideo": (VIDEO, _compressed),
    PACKET: (VIDEO, _packet),
    "CameraCalibration": ("sensor_msgs/msg/CameraInfo", _camera_info),
    "FrameTransforms": ("tf2_msgs/msg/TFMessage", _transforms),
    "FrameTransform": (
        "tf2_msgs/msg/TFMessage",
        lambda message: SimpleNamespace(transforms=[_transform(message)]),
    ),
}
