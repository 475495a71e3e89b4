# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag are used: images, their calibration, and those that are copied."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from da3_core.bag.read import BagReader
from da3_core.errors import InputError, OptionError
from da3_core.options import IsRectified
from da3_core.ros_data.camera_info import named_rectified
from da3_core.ros_data.foreign import VIDEO
from da3_core.ros_data.images import check_image, compressed_size, encoding_of, unknown_encoding
from da3_core.ros_data.values import CAMERA_INFO, IMAGE
from da3_core.ros_data.video import decoder_name

COMPRESSED = "sensor_msgs/msg/CompressedImage"
NODE = "/da3"  # whose topics the results have
KINDS = (IMAGE, COMPRESSED, VIDEO)  # of the same images, the first is taken
TRANSPORTS = ("/compressed", "/ffmpeg", "/foxglove")  # what image_transport appends to the topic of the images
LOOKED_AT = 3  # messages, before a topic is said to hold no images
MOST_LISTED = 20


def image_topics(bag: BagReader, named: Sequence[str]) -> tuple[str, ...]:
    """Those named, or the one that holds images.

    Raises:
        InputError: no such topic, or none is named and none or several may be meant.
    """
    images = {topic for topic, kind in bag.types.items() if kind in KINDS}
    for topic in named:
        if topic not in images:
            raise InputError(f"the bag has no images on {topic!r}; it has them on {_listed(images)}")
    if named:
        return tuple(named)
    reasons = {topic: _reason_against(bag, topic) for topic in sorted(images) if not topic.startswith(f"{NODE}/")}
    with_images = {topic for topic, reason in reasons.items() if reason is None}
    ranks = {topic: KINDS.index(bag.types[topic]) for topic in with_images}
    with_images = {
        topic
        for topic in with_images
        if not any(base_topic(other) == base_topic(topic) and ranks[other] < ranks[topic] for other in with_images)
    }
    if not with_images:
        damage = f"{bag.damage}, and what can be read of it" if bag.damage else "the bag"
        why = "".join(f"; {topic}: {reason}" for topic, reason in reasons.items())
        raise InputError(f"{damage} has no topic with images{why}; it holds {_contents(bag)}")
    if len(with_images) > 1:
        raise OptionError(
            "the bag has several topics with images, {topics}: name one with {image_topics}, or, of a rig whose "
            "cameras see one scene, each of them",
            topics=_listed(with_images),
        )
    return (with_images.pop(),)


def info_topics(
    bag: BagReader, images: Sequence[str], named: Sequence[str], is_rectified: IsRectified
) -> tuple[str | None, ...]:
    """For every image topic that named, else `camera_info` beside it, else None.

    Beside rectified images, `camera_info_rect` goes first.

    Raises:
        InputError: no such topic.
    """
    infos = {topic for topic, kind in bag.types.items() if kind == CAMERA_INFO}
    for topic in named:
        if topic not in infos:
            raise InputError(f"the bag has no CameraInfo on {topic!r}; it has it on {_listed(infos)}")
    if named:
        return tuple(named)
    return tuple(_beside(image, infos, is_rectified) for image in images)


def _beside(image: str, infos: set[str], is_rectified: IsRectified) -> str | None:
    topic = base_topic(image).rpartition("/")[0] + "/camera_info"
    names = [f"{topic}_rect", topic] if named_rectified(image, is_rectified) else [topic]
    return next((name for name in names if name in infos), None)


def camera_names(images: Sequence[str]) -> tuple[str, ...]:
    """What tells image topics apart, for the names of outputs; an empty name for a single one.

    /rig/left/image_raw and /rig/right/image_raw are `left` and `right`.
    """
    if len(images) == 1:
        return ("",)
    parts = [base_topic(image).strip("/").split("/") for image in images]
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


def base_topic(image: str) -> str:
    """The topic of the images, without what image_transport appends for how they are packed."""
    return next((image.removesuffix(end) for end in TRANSPORTS if image.endswith(end)), image)


def _reason_against(bag: BagReader, topic: str) -> str | None:
    """Why the first images are no images of a camera, such as depth or a mask; None where one of them is."""
    kind, reason = bag.types[topic], None
    for message in islice(bag.messages([topic]), LOOKED_AT):
        try:
            image = bag.decode(message)
            if kind == VIDEO:
                decoder_name(image)
            elif kind == COMPRESSED:
                compressed_size(image)
            elif encoding_of(image) is None:
                raise InputError(unknown_encoding(image))
            else:
                check_image(image)
            return None
        except InputError as error:
            reason = reason or clause(error)
    return reason or "no message"


def clause(error: InputError) -> str:
    """The sentence of a refusal as a part of another."""
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]


def _contents(bag: BagReader) -> str:
    topics = [f"{topic} ({kind}, {bag.counts[topic]} messages)" for topic, kind in sorted(bag.types.items())]
    more = [f"{len(topics) - MOST_LISTED} other topics"] if len(topics) > MOST_LISTED else []
    return ", ".join(topics[:MOST_LISTED] + more) or "no topic"


def _listed(topics: set[str]) -> str:
    return ", ".join(sorted(topics)) or "no topic"
