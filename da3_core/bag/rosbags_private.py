# SPDX-License-Identifier: Apache-2.0
"""What we need of rosbags and rosbags does not promise, which is why pyproject.toml has an upper bound for it.

`ros1_file` makes the index of a cut bag anew, which the reader has no option for, and so also calls its methods and
sets its attributes. `decompressors` are those of its chunks, which know no bound. `migrate_bytes` converts one message,
which is public for whole bags alone. `parse_qos` reads what rosbag2 notes about profiles.
Checked with rosbags 0.11.9.
"""

from rosbags.convert.converter import LATCH as LATCH
from rosbags.convert.converter import migrate_bytes as migrate_bytes
from rosbags.rosbag1.reader import ChunkInfo as ChunkInfo
from rosbags.rosbag1.reader import Header as Header
from rosbags.rosbag1.reader import IndexData as IndexData
from rosbags.rosbag1.reader import RecordType as RecordType
from rosbags.rosbag1.reader import decompressors as decompressors
from rosbags.rosbag1.reader import read_bytes as read_bytes
from rosbags.rosbag1.reader import read_uint32 as read_uint32
from rosbags.rosbag2.metadata import parse_qos as parse_qos
