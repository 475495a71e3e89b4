# SPDX-License-Identifier: Apache-2.0
"""Bags as programs other than ROS 2 write them, by Foxglove's own library and by real Protobuf."""

from collections import Counter
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from mcap.writer import Writer
from mcap_protobuf.writer import Writer as ProtobufWriter
from rosbags.convert.converter import migrate_bytes
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

T = descriptor_pb2.FieldDescriptorProto
REPEATED = T.LABEL_REPEATED

# Name, type and, of messages, whose; as https://github.com/foxglove/foxglove-sdk numbers the fields.
SCHEMAS: dict[str, list[tuple[str, int, str]]] = {
    "Vector3": [(name, T.TYPE_DOUBLE, "") for name in "xyz"],
    "Quaternion": [(name, T.TYPE_DOUBLE, "") for name in "xyzw"],
    "RawImage": [
        ("timestamp", T.TYPE_MESSAGE, "Timestamp"),
        ("width", T.TYPE_FIXED32, ""),
        ("height", T.TYPE_FIXED32, ""),
        ("encoding", T.TYPE_STRING, ""),
        ("step", T.TYPE_FIXED32, ""),
        ("data", T.TYPE_BYTES, ""),
        ("frame_id", T.TYPE_STRING, ""),
    ],
    "CompressedVideo": [
        ("timestamp", T.TYPE_MESSAGE, "Timestamp"),
        ("frame_id", T.TYPE_STRING, ""),
        ("data", T.TYPE_BYTES, ""),
        ("format", T.TYPE_STRING, ""),
    ],
    "CameraCalibration": [
        ("timestamp", T.TYPE_MESSAGE, "Timestamp"),
        ("width", T.TYPE_FIXED32, ""),
        ("height", T.TYPE_FIXED32, ""),
        ("distortion_model", T.TYPE_STRING, ""),
        *((name, T.TYPE_DOUBLE, "*") for name in "DKRP"),
        ("frame_id", T.TYPE_STRING, ""),
    ],
    "FrameTransform": [
        ("timestamp", T.TYPE_MESSAGE, "Timestamp"),
        ("parent_frame_id", T.TYPE_STRING, ""),
        ("child_frame_id", T.TYPE_STRING, ""),
        ("translation", T.TYPE_MESSAGE, "Vector3"),
        ("rotation", T.TYPE_MESSAGE, "Quaternion"),
    ],
    "FrameTransforms": [("transforms", T.TYPE_MESSAGE, "*FrameTransform")],
}


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.Default()  # which knows Timestamp
    file = descriptor_pb2.FileDescriptorProto(
        name="foxglove.proto", package="foxglove", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    for name, fields in SCHEMAS.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, of) in enumerate(fields, 1):
            made = message.field.add(name=field, number=number, type=kind, label=T.LABEL_OPTIONAL)
            if of.startswith("*"):
                made.label = REPEATED
            if kind == T.TYPE_MESSAGE:
                package = "google.protobuf" if of == "Timestamp" else "foxglove"
                made.type_name = f".{package}.{of.removeprefix('*')}"
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"foxglove.{name}")) for name in SCHEMAS}


CLASSES = _classes()


def foxglove_time(stamp: Any) -> Any:
    return timestamp_pb2.Timestamp(seconds=int(stamp.sec), nanos=int(stamp.nanosec))


def as_foxglove(message: Any) -> Any:
    """A message of ROS as the message of Foxglove for the same; None where there is none."""
    if hasattr(message, "transforms"):
        edges = [
            CLASSES["FrameTransform"](
                timestamp=foxglove_time(each.header.stamp),
                parent_frame_id=each.header.frame_id,
                child_frame_id=each.child_frame_id,
                translation={name: getattr(each.transform.translation, name) for name in "xyz"},
                rotation={name: getattr(each.transform.rotation, name) for name in "xyzw"},
            )
            for each in message.transforms
        ]
        return CLASSES["FrameTransforms"](transforms=edges)
    head = {"timestamp": foxglove_time(message.header.stamp), "frame_id": message.header.frame_id}
    if hasattr(message, "k"):
        matrices = {name.upper(): getattr(message, name).tolist() for name in "dkrp"}
        sizes = {"width": message.width, "height": message.height}
        return CLASSES["CameraCalibration"](**head, **sizes, distortion_model=message.distortion_model, **matrices)
    if hasattr(message, "step"):
        fields = {name: getattr(message, name) for name in ("width", "height", "encoding", "step")}
        return CLASSES["RawImage"](**head, **fields, data=message.data.tobytes())
    return None


def in_protobuf(recording: Path, path: Path) -> Path:
    """Images, calibration and transforms as Foxglove's Protobuf, in a file of its profile."""
    path = path.with_suffix(".mcap")
    with AnyReader([recording]) as reader, path.open("wb") as file, ProtobufWriter(file) as writer:
        for connection, time_ns, raw in reader.messages():
            message = as_foxglove(reader.deserialize(raw, connection.msgtype))
            if message is not None:
                writer.write_message(connection.topic, message, time_ns, time_ns)
    return path


def in_mcap(recording: Path, path: Path, *, profile: str, extra: Any = None, **options: Any) -> Path:
    """The messages of a bag of ROS 1 or ROS 2 as they are, in a file by Foxglove's library.

    Args:
        extra: given the writer, before the messages.
    """
    path = path.with_suffix(".mcap")
    with AnyReader([recording]) as reader, path.open("wb") as file:
        schemas, encoding = ("ros2msg", "cdr") if reader.is2 else ("ros1msg", "ros1")
        writer = Writer(file, **options)
        writer.start(profile=profile, library="tests")
        if extra:
            extra(writer)
        channels = {}
        for connection in reader.connections:
            kind, definition = connection.msgtype, connection.msgdef.data.encode()
            schema = writer.register_schema(kind if reader.is2 else kind.replace("/msg/", "/"), schemas, definition)
            latched = {"latching": "1"} if getattr(connection.ext, "latching", 0) else {}
            channels[connection.id] = writer.register_channel(connection.topic, encoding, schema, latched)
        for connection, time_ns, raw in reader.messages():
            writer.add_message(channels[connection.id], time_ns, bytes(raw), time_ns)
        writer.finish()
    return path


def in_ros1_mcap(recording: Path, path: Path, *, damaged: str) -> Path:
    """The messages of a bag of ROS 2 as those of ROS 1, of one topic the second cut short."""
    source, store = get_typestore(Stores.LATEST), get_typestore(Stores.ROS1_NOETIC)
    store.register({name: fields for name, fields in source.fielddefs.items() if name.startswith("tf2_msgs/msg/TF")})
    path, plans = path.with_suffix(".mcap"), dict[str, object]()
    with AnyReader([recording]) as reader, path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="ros1", library="tests")
        channels, counts = {}, Counter[str]()
        for topic, kind in {each.topic: each.msgtype for each in reader.connections}.items():
            definition = store.generate_msgdef(kind, ros_version=1)[0].encode()
            schema = writer.register_schema(kind.replace("/msg/", "/"), "ros1msg", definition)
            channels[topic] = writer.register_channel(topic, "ros1", schema)
        for connection, time_ns, raw in reader.messages():
            kind, topic = connection.msgtype, connection.topic
            old = bytes(migrate_bytes(source, store, kind, kind, plans, raw, src_is2=True, dst_is2=False))
            counts[topic] += 1
            cut = topic == damaged and counts[topic] == 2
            writer.add_message(channels[topic], time_ns, old[:20] if cut else old, time_ns)
        writer.finish()
    return path
