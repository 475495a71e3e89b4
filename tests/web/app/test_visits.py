# SPDX-License-Identifier: Apache-2.0
"""What is kept for a visitor, and when it goes."""

import os
import time
from pathlib import Path

import pytest

from da3_core.errors import InputError
from da3_core.web.app.visits import Visits


def test_a_session_has_a_folder_that_goes_with_it(tmp_path: Path) -> None:
    visits = Visits(tmp_path, idle_s=3600)
    key, other = visits.open(), visits.open()
    assert key != other
    with visits.use(key) as visit:
        (visit.folder / "picture.png").touch()
    visits.close(key)
    assert [folder.name for folder in tmp_path.iterdir()] == [other]
    with pytest.raises(InputError, match="upload again"):
        visits.use(key).__enter__()
    visits.close(key)  # twice does no harm


def test_no_session_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="upload some"):
        Visits(tmp_path, idle_s=1).use(None).__enter__()


def test_what_nobody_uses_expires_and_what_is_in_use_does_not(tmp_path: Path) -> None:
    visits = Visits(tmp_path, idle_s=0)
    used, idle = visits.open(), visits.open()
    assert not visits.in_use
    with visits.use(used) as visit:
        assert visits.in_use
        visits.expire()
        assert visit.folder.is_dir()
        assert not (tmp_path / idle).exists()
    visits.expire()
    assert not list(tmp_path.iterdir())


def test_a_session_that_is_closed_while_in_use_goes_when_the_last_user_leaves(tmp_path: Path) -> None:
    visits = Visits(tmp_path, idle_s=3600)
    key = visits.open()
    with visits.use(key) as visit:
        with visits.use(key):
            visits.close(key)
            assert visit.is_closed
        assert visit.folder.is_dir()
        with pytest.raises(InputError, match="upload again"):
            visits.use(key).__enter__()
    assert not list(tmp_path.iterdir())
    assert not visits.in_use


def test_use_keeps_a_session(tmp_path: Path) -> None:
    visits = Visits(tmp_path, idle_s=3600)
    key = visits.open()
    visits.expire()
    with visits.use(key) as visit:
        assert visit.folder.is_dir()


def test_left_overs_of_an_earlier_process_go_when_they_are_old(tmp_path: Path) -> None:
    for name, age_s in (("session_1_a", 7200), ("session_2_b", 60), ("example_room", 7200)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    Visits(tmp_path, idle_s=3600)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["example_room", "session_2_b"]
