# SPDX-License-Identifier: Apache-2.0
"""Bags, whole and damaged: their topics, and their messages one by one, as far as they can be read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from da3_core.bag.unpacked import TooLargeError, remove_left_unpacked, unpacked, unpacking_folder
from da3_core.errors import InputError

if TYPE_CHECKING:
    from da3_core.bag.channel import BagFile, Channel, FileMessage

logger = logging.getLogger(__name__)

STORAGE_SUFFIXES = (".mcap", ".db3", ".bag")
COMPRESSED_SUFFIX = ".zstd"
METADATA = "metadata.yaml"
INSTALL = "reading bags needs the package 'rosbags': pip install 'da3_ros[bag]'"


class BagMessage(NamedTuple):
    """A message as it lies in the bag: its topic, the time it was recorded at, and its bytes."""

    topic: str
    time_ns: int
    raw: bytes
    channel: Channel


def open_plainly(path: Path) -> BinaryIO:
    """As whoever runs this process may."""
    return path.open("rb")


class BagReader:
    """A bag from construction to `close`.

    Attributes:
        path: as given: a folder, its `metadata.yaml`, or one `.mcap`, `.db3` or `.bag` file.
        types: the type of ROS that the messages of every topic have when they are decoded, such as
            `sensor_msgs/msg/Image`; Foxglove's images have it too.
        counts: the messages of every topic.
        start_ns, end_ns: time of the first message, and just after the last one.
        damage: what is wrong with the bag, in words; None while nothing is known to be.
    """

    def __init__(self, path: Path, open_file: Callable[[Path], BinaryIO] = open_plainly) -> None:
        """Open a bag; of a damaged one, what can be read.

        Args:
            open_file: opens each of its files, such as `AllowedFolders.open_file`. Nothing is read by its path.

        Raises:
            InputError: no bag, or nothing of it can be read.
        """
        try:
            import rosbags  # noqa: F401
        except ImportError as error:
            raise InputError(INSTALL) from error
        from da3_core.bag.decode import MessageDecoder, decoded_type

        self.path = path
        self._open_file = open_file
        self.damage: str | None = None
        self._stack = ExitStack()
        self._folder: Path | None = None  # of what is unpacked
        self._files: list[BagFile] = []
        remove_left_unpacked()
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        channels = [channel for file in self._files for channel in file.channels]
        self._channels = {channel.topic: channel for channel in reversed(channels)}  # the first of each topic
        self._decoder = MessageDecoder(channels)
        self.types: dict[str, str] = {topic: decoded_type(channel) for topic, channel in self._channels.items()}
        self.counts = dict.fromkeys(self.types, 0)
        for channel in channels:
            self.counts[channel.topic] += channel.count
        filled = [file for file in self._files if file.end_ns > file.start_ns]
        self.start_ns = min((file.start_ns for file in filled), default=0)
        self.end_ns = max((file.end_ns for file in filled), default=0)

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._stack.close()

    def channel(self, topic: str) -> Channel:
        """How a topic was recorded."""
        return self._channels[topic]

    def typestore(self, channel: Channel) -> Any:
        """The types that a channel of ROS 1 or of ROS 2 is among, as recorded."""
        return self._decoder.ros1_types if channel.encoding == "ros1" else self._decoder.ros2_types

    def decode(self, message: BagMessage) -> Any:
        """The fields of a message. Raises InputError when its bytes are not such a message, which is damage."""
        try:
            return self._decoder.decode(message.channel, message.raw)
        except Exception as error:  # whatever wrong bytes make a parser raise
            raise InputError(self.tell_damaged(message, error)) from error

    def tell_damaged(self, message: BagMessage, error: Exception) -> str:
        """Note that a message is damaged, which the error shows; in words."""
        damage = f"a message of {message.topic} in {self.path} is damaged ({_in_words(error)})"
        self.damage = self.damage or damage
        return damage

    def first(self, topic: str) -> Any:
        """The first message of a topic, decoded; None where there is none."""
        for message in self.messages([topic]):
            return self.decode(message)
        return None

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Messages in the order of their recording, from `start_ns` to before `stop_ns`.

        Where a file of the bag is damaged its messages end, and `damage` says so.
        """
        from da3_core.bag.channel import in_order

        parts: list[tuple[int, Callable[[], Iterator[FileMessage]]]] = []
        for file in self._files:
            channels = [channel for channel in file.channels if channel.topic in topics]
            if channels and any(channel.count for channel in channels):
                parts.append((file.start_ns, partial(self._of_file, file, channels, start_ns, stop_ns)))
        for channel, time_ns, raw in in_order(parts):
            yield BagMessage(channel.topic, time_ns, raw, channel)

    def _of_file(
        self, file: BagFile, channels: list[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[FileMessage]:
        try:
            yield from file.messages(channels, start_ns, stop_ns)
        except Exception as error:  # whatever damaged files make parsers and decompressors raise
            self.damage = self.damage or f"{self.path} is damaged ({_in_words(error)})"

    def _open(self) -> None:
        if not self.path.exists():
            raise InputError(f"{self.path} does not exist: give a bag, a folder or a .mcap, .db3 or .bag file")
        folder = self.path.parent if self.path.name == METADATA else self.path
        if folder.is_dir():
            paths, expected = self._files_of(folder)
        elif _storage_suffix(self.path):
            paths, expected = [self.path], 0
        else:
            raise InputError(f"{self.path} is no bag: give a folder, or a file ending in {', '.join(STORAGE_SUFFIXES)}")
        reasons = []
        for path in paths:
            try:
                self._files.append(self._opened(path))
                reasons += [self._files[-1].damage] if self._files[-1].damage else []
            except TooLargeError:
                raise
            except Exception as error:  # as above
                reasons.append(_in_words(error))
                if len(paths) > 1:
                    logger.warning("%s cannot be read: %s", path, reasons[-1])
        if reasons and not self.damage:
            self.damage = f"{self.path} is damaged ({reasons[0]})"
        if not self._files:
            raise InputError(f"{self.damage}, and nothing of it can be read: reindex it with the tools of ROS")
        found = sum(channel.count for file in self._files for channel in file.channels)
        if found < expected and not self.damage:
            logger.warning("%s speaks of %d messages, and the files hold %d", METADATA, expected, found)

    def _files_of(self, folder: Path) -> tuple[list[Path], int]:
        """The storage files of a folder, and how many messages its metadata speak of.

        The files themselves say what is in them. Metadata may be absent, edited, or name files that were renamed; where
        there are no others instead, files are missing, which is damage.
        """
        there = sorted(path for path in folder.iterdir() if _storage_suffix(path) and not path.name.startswith("."))
        names, expected = self._read_metadata(folder / METADATA)
        named = [folder / name for name in names]
        missing = [path.name for path in named if path not in there]
        others = [path for path in there if path not in named]
        if len(others) < len(missing):
            self.damage = f"{self.path} is damaged (its {', '.join(missing)} is missing)"
        if not there:
            inside = sorted(path.parent.name for path in folder.glob(f"*/{METADATA}"))
            one = f"name one of the bags in it, {', '.join(inside)}" if inside else "give the folder of a bag"
            raise InputError(f"{folder} holds no file ending in {', '.join(STORAGE_SUFFIXES)}: {one}")
        return (named if named and not missing else there), expected

    def _opened(self, path: Path) -> BagFile:
        suffix, open_file = _storage_suffix(path), self._open_file
        if path.suffix == COMPRESSED_SUFFIX:
            path, open_file = self._unpacked(path), open_plainly
        if suffix == ".mcap":
            from da3_core.bag.mcap_file import McapFile

            return McapFile(open_file(path))
        if suffix == ".db3":
            from da3_core.bag.sqlite_file import SqliteFile

            return SqliteFile(path, open_file)
        from da3_core.bag.ros1_file import Ros1File

        return Ros1File(open_file(path))

    def _unpacked(self, path: Path) -> Path:
        """A copy of a file without its compression."""
        if self._folder is None:
            self._folder = self._stack.enter_context(unpacking_folder())
        target = self._folder / path.name.removesuffix(COMPRESSED_SUFFIX)
        with self._open_file(path) as packed:
            unpacked(packed, path, target)
        return target

    def _read_metadata(self, path: Path) -> tuple[list[str], int]:
        """The names of files and the number of messages; none where there is nothing to be read."""
        from ruamel.yaml import YAML

        if not path.is_file():
            return [], 0
        try:
            with self._open_file(path) as file:
                information = YAML(typ="safe").load(file.read().decode())["rosbag2_bagfile_information"]
            names = [PurePath(name).name for name in information["relative_file_paths"]]
            return names, int(information["message_count"])
        except Exception as error:  # whatever an edited file makes the parser raise
            logger.warning("%s cannot be read (%s): the files beside it are", path, _in_words(error))
            return [], 0


def _storage_suffix(path: Path) -> str | None:
    """Of a file of a bag, also of one that was compressed as a whole."""
    suffix = Path(path.name.removesuffix(COMPRESSED_SUFFIX)).suffix
    return suffix if suffix in STORAGE_SUFFIXES and path.is_file() else None


def _in_words(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__).rstrip(".")
