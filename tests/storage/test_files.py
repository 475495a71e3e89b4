# SPDX-License-Identifier: Apache-2.0
"""Files are whole for every reader, whoever else writes them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from da3_core.storage.files import write_atomically


def test_two_writers_never_mix_their_files(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([i]) * 1_000_000 for i in range(2)]
    write_atomically(path, contents[0])

    def write(content: bytes) -> None:
        for _ in range(30):
            write_atomically(path, content)

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write, content) for content in contents]
        while not all(writer.done() for writer in writers):
            assert path.read_bytes() in contents
    assert [writer.result() for writer in writers] == [None, None]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"cannot take the place of a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
