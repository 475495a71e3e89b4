# SPDX-License-Identifier: Apache-2.0
"""The bytes of messages to objects with the fields of ROS messages: of ROS 1 and 2, and what Foxglove defines in
Protobuf and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from typing import Any

from da3_core.bag.channel import ROS_ENCODINGS, Channel
from da3_core.errors import InputError
from da3_core.ros_data.foreign import as_ros, ros_type_of


def decoded_type(channel: Channel) -> str:
    """The type of ROS whose fields the decoded messages have; of those that are not decoded, type and encoding."""
    known = ros_type_of(channel.type_name)
    if channel.encoding in ROS_ENCODINGS:
        return known or channel.type_name
    return known if known and channel.encoding in ("protobuf", "json") else f"{channel.type_name} ({channel.encoding})"


class MessageDecoder:
    """The types of all channels of a bag, as recorded with them; those that no file defines as ROS defines them."""

    def __init__(self, channels: Iterable[Channel]) -> None:
        self._channels = list(channels)
        self._protobuf: dict[tuple[str, bytes], Any] = {}

    @cached_property
    def ros1_types(self) -> Any:
        from rosbags.typesys import Stores

        return self._typestore("ros1", Stores.ROS1_NOETIC)

    @cached_property
    def ros2_types(self) -> Any:
        from rosbags.typesys import Stores

        return self._typestore("cdr", Stores.LATEST)

    def decode(self, channel: Channel, raw: bytes) -> Any:
        """Raises whatever parsers raise where the bytes are not such a message."""
        message: Any
        if channel.encoding == "cdr":
            message = self.ros2_types.deserialize_cdr(raw, channel.type_name)
        elif channel.encoding == "ros1":
            message = self.ros1_types.deserialize_ros1(raw, channel.type_name)
        elif channel.encoding == "json":
            message = json.loads(raw)
        elif channel.encoding == "protobuf":
            message = self._message_class(channel).FromString(raw)
        else:
            raise InputError(f"nothing here reads the encoding {channel.encoding!r}")
        return as_ros(channel.type_name, message)

    def _typestore(self, encoding: str, default: Any) -> Any:
        from rosbags.typesys import Stores, get_typestore

        types: dict[str, Any] = {}
        channels = [channel for channel in self._channels if channel.encoding == encoding]
        for channel in channels:
            with suppress(Exception):  # what a wrong definition makes a parser raise; the topic is then unknown
                types.update(_definitions(channel))
        if any(channel.type_name not in types for channel in channels):
            types = {**get_typestore(default).fielddefs, **types}
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        return store

    def _message_class(self, channel: Channel) -> Any:
        key = channel.type_name, channel.definition
        if key not in self._protobuf:
            self._protobuf[key] = _protobuf_class(channel)
        return self._protobuf[key]


def _definitions(channel: Channel) -> dict[str, Any]:
    """A type and those that it is made of."""
    from rosbags.typesys import get_types_from_idl, get_types_from_msg

    text = channel.definition.decode()
    if channel.definition_format in ("ros2msg", "ros1msg"):
        return dict(get_types_from_msg(text, channel.type_name))
    types: dict[str, Any] = {}
    if channel.definition_format == "ros2idl":
        ruler = "=" * 80 + "\n"  # above the name of each of several files
        files = text.split(ruler)[1:] if text.startswith(ruler) else [f"\n{text}"]
        for file in files:
            types.update(get_types_from_idl(file.partition("\n")[2]))
    return types


def _protobuf_class(channel: Channel) -> Any:
    """The class of a channel's messages, by the files that describe it."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise InputError("reading Protobuf needs a package: pip install 'da3_ros[bag]'") from error
    files = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(channel.definition).file}
    pool = descriptor_pool.DescriptorPool()

    def add(name: str) -> None:
        """A file after those that it needs."""
        if (file := files.pop(name, None)) is not None:
            for needed in file.dependency:
                add(needed)
            pool.AddSerializedFile(file.SerializeToString())

    for name in list(files):
        add(name)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(channel.type_name))
