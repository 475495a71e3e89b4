# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag are used: pictures, their calibration, and those that are copied."""

from __future__ import annotations

import re
from collections.abc import Sequence

from da3_core.bag.read import BagReader
from da3_core.errors import InputError, OptionError
from da3_core.ros_data.images import ENCODINGS, compressed_size
from da3_core.ros_data.values import CAMERA_INFO, IMAGE

COMPRESSED = "sensor_msgs/msg/CompressedImage"
NODE = "/da3"  # whose topics the results have


def image_topics(bag: BagReader, named: Sequence[str]) -> tuple[str, ...]:
    """Those named, or the one that holds pictures.

    Raises:
        InputError: no such topic, or none is named and none or several may be meant.
    """
    images = {topic for topic, kind in bag.types.items() if kind in (IMAGE, COMPRESSED)}
    for topic in named:
        if topic not in images:
            raise InputError(f"the bag has no images on {topic!r}; it has them on {_listed(images)}")
    if named:
        return tuple(named)
    pictures = {topic for topic in images if not topic.startswith(f"{NODE}/") and _is_picture(bag, topic)}
    raw = {topic for topic in pictures if bag.types[topic] == IMAGE}
    pictures -= {f"{topic}/compressed" for topic in raw}  # the same images again
    if not pictures:
        damage = f"{bag.damage}, and what can be read of it" if bag.damage else "the bag"
        raise InputError(f"{damage} has no topic with pictures; its images are on {_listed(images)}")
    if len(pictures) > 1:
        raise OptionError(
            "the bag has several topics with pictures, {topics}: name one with {image_topics}, or all of a rig, whose "
            "cameras see one scene",
            topics=_listed(pictures),
        )
    return (pictures.pop(),)


def info_topics(bag: BagReader, images: Sequence[str], named: Sequence[str]) -> tuple[str | None, ...]:
    """For every image topic that named, else `camera_info` beside it, else None.

    Raises:
        InputError: no such topic.
    """
    infos = {topic for topic, kind in bag.types.items() if kind == CAMERA_INFO}
    for topic in named:
        if topic not in infos:
            raise InputError(f"the bag has no CameraInfo on {topic!r}; it has it on {_listed(infos)}")
    if named:
        return tuple(named)
    beside = [image.removesuffix("/compressed").rpartition("/")[0] + "/camera_info" for image in images]
    return tuple(topic if topic in infos else None for topic in beside)


def camera_names(images: Sequence[str]) -> tuple[str, ...]:
    """What tells image topics apart, for the names of outputs; an empty name for a single one.

    /rig/left/image_raw and /rig/right/image_raw are `left` and `right`.
    """
    if len(images) == 1:
        return ("",)
    parts = [image.removesuffix("/compressed").strip("/").split("/") for image in images]
    if len({tuple(each) for each in parts}) < len(parts):  # the same images twice
        parts = [image.strip("/").split("/") for image in images]
    for end in (0, -1):
        while min(map(len, parts)) > 1 and len({each[end] for each in parts}) == 1:
            for each in parts:
                each.pop(end)
    return tuple("/".join(each) for each in parts)


def topics_to_copy(bag: BagReader, choice: str) -> set[str]:
    """The topics that `all`, `none` or a regular expression means.

    Raises:
        InputError: the expression is none, or it means no topic.
    """
    if choice == "none":
        return set()
    try:
        topics = {topic for topic in bag.types if choice == "all" or re.search(choice, topic)}
    except re.error as error:
        raise OptionError(
            "{copy_topics} is {given!r}: give all, none or a regular expression ({error})", given=choice, error=error
        ) from error
    if not topics:
        raise OptionError(
            "{copy_topics} {given!r} means none of the topics {topics}",
            given=choice,
            topics=", ".join(sorted(bag.types)),
        )
    return {topic for topic in topics if not topic.startswith(f"{NODE}/")}


def _is_picture(bag: BagReader, topic: str) -> bool:
    """Whether the first image is a picture of a camera, not depth or a mask of another kind."""
    try:
        image = bag.first(topic)
        if image is not None and bag.types[topic] == COMPRESSED:
            compressed_size(image)
    except InputError:
        return False
    return image is not None and (bag.types[topic] == COMPRESSED or image.encoding in ENCODINGS)


def _listed(topics: set[str]) -> str:
    return ", ".join(sorted(topics)) or "no topic"
