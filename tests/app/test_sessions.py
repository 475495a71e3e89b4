# SPDX-License-Identifier: Apache-2.0
"""What is kept for a visitor, and when it goes."""

import os
import time
from pathlib import Path

import pytest

from da3_core.app.sessions import Sessions
from da3_core.errors import InputError


def test_a_session_has_a_folder_that_goes_with_it(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, idle_s=3600)
    key, other = sessions.open(), sessions.open()
    assert key != other
    with sessions.use(key) as session:
        (session.folder / "picture.png").touch()
    sessions.close(key)
    assert [folder.name for folder in tmp_path.iterdir()] == [other]
    with pytest.raises(InputError, match="upload again"):
        sessions.use(key).__enter__()
    sessions.close(key)  # twice does no harm


def test_no_session_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="upload some"):
        Sessions(tmp_path, idle_s=1).use(None).__enter__()


def test_what_nobody_uses_expires_and_what_is_in_use_does_not(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, idle_s=0)
    used, idle = sessions.open(), sessions.open()
    assert not sessions.in_use
    with sessions.use(used) as session:
        assert sessions.in_use
        sessions.expire()
        assert session.folder.is_dir()
        assert not (tmp_path / idle).exists()
    sessions.expire()
    assert not list(tmp_path.iterdir())


def test_a_session_that_is_closed_while_in_use_goes_when_the_last_user_leaves(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, idle_s=3600)
    key = sessions.open()
    with sessions.use(key) as session:
        with sessions.use(key):
            sessions.close(key)
            assert session.is_closed
        assert session.folder.is_dir()
        with pytest.raises(InputError, match="upload again"):
            sessions.use(key).__enter__()
    assert not list(tmp_path.iterdir())
    assert not sessions.in_use


def test_use_keeps_a_session(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, idle_s=3600)
    key = sessions.open()
    sessions.expire()
    with sessions.use(key) as session:
        assert session.folder.is_dir()


def test_left_overs_of_an_earlier_process_go_when_they_are_old(tmp_path: Path) -> None:
    for name, age_s in (("session_1_a", 7200), ("session_2_b", 60), ("example_room", 7200)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    Sessions(tmp_path, idle_s=3600)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["example_room", "session_2_b"]
