# SPDX-License-Identifier: Apache-2.0
"""What we need of rosbags and rosbags does not promise, which is why pyproject.toml has an upper bound for it.

`salvage` makes its readers go on where a file is damaged, which they have no option for, and so also overrides their
methods and sets their attributes. `migrate_bytes` converts one message, which is public for whole bags alone.
Checked with rosbags 0.11.9.
"""

from rosbags.convert.converter import LATCH as LATCH
from rosbags.convert.converter import migrate_bytes as migrate_bytes
from rosbags.rosbag1.reader import ChunkInfo as ChunkInfo
from rosbags.rosbag1.reader import Header as Header
from rosbags.rosbag1.reader import IndexData as IndexData
from rosbags.rosbag1.reader import RecordType as RecordType
from rosbags.rosbag1.reader import read_bytes as read_bytes
from rosbags.rosbag1.reader import read_uint32 as read_uint32
from rosbags.rosbag2.metadata import ReaderMetadata as ReaderMetadata
from rosbags.rosbag2.metadata import parse_qos as parse_qos
from rosbags.rosbag2.storage_mcap import McapReader as McapReader
from rosbags.rosbag2.storage_mcap import decompress as decompress
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader as Sqlite3Reader
