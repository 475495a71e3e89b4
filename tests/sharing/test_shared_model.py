# SPDX-License-Identifier: Apache-2.0
"""One process, several that share its model: real processes, which are refused, killed, and started again."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from plain_process import DEADLY, REFUSED, SLOW, SLOW_S, STUCK, load

from da3_core.errors import ImageError, InputError
from da3_core.options import InferenceOptions, ModelOptions
from da3_core.sharing import model as client_side
from da3_core.sharing import process
from da3_core.sharing.model import SharedModel
from da3_core.sharing.place import Place
from da3_core.sharing.wire import Damaged, receive, send
from da3_core.stream.frame import Frame

PROGRAM = (sys.executable, str(Path(__file__).with_name("plain_process.py")))
OPTIONS = InferenceOptions(process_res=56, ref_view_strategy="middle", export_feat_layers=(1, 2))

Connect = Callable[..., SharedModel]


@pytest.fixture
def connect(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Makes clients of processes of their own, which are killed afterwards."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    models: list[SharedModel] = []

    def make(name: str = "front", model: str = "da3-small") -> SharedModel:
        models.append(SharedModel(name, ModelOptions(model), PROGRAM))
        return models[-1]

    yield make
    for each in models:
        each.close()
        kill(each)


def kill(model: SharedModel) -> None:
    if model.facts.process != os.getpid() and psutil.pid_exists(model.facts.process):
        os.kill(model.facts.process, signal.SIGKILL)


def image(grey: int = 7) -> np.ndarray:
    return np.full((4, 6, 3), grey, np.uint8)


def test_two_share_one_process_and_are_told_apart(connect: Connect) -> None:
    first, second = connect(), connect()
    assert first.facts.process == second.facts.process != os.getpid()
    assert second.process_status == f"front, process {first.facts.process}, shared by 2"
    assert (first.preset.name, first.source, first.device) == ("da3-small", "plain", "cpu")
    assert (first.warning, first.engine_status, first.precision_status) == ("it is plain", "none", "float32, as always")

    extrinsics, intrinsics = np.random.default_rng(0).normal(size=(2, 4, 4)), np.tile(np.eye(3, dtype="f4"), (2, 1, 1))
    frames = [Frame(image(grey), grey, "camera") for grey in (3, 4, 5)]
    kept = first.kept_views()
    for window in (frames[:2], frames[1:]):
        images = [each.image[:, ::-1] for each in window]  # which is not contiguous
        answer = first.predict(images, OPTIONS, extrinsics=extrinsics, intrinsics=intrinsics, known=kept.known(window))
        np.testing.assert_array_equal(answer.processed_images, np.stack(images))
    assert InferenceOptions(**answer.aux["options"]) == OPTIONS
    assert answer.aux["process"] == first.facts.process
    np.testing.assert_array_equal(answer.aux["extrinsics"], extrinsics)
    assert answer.aux["intrinsics"].dtype == np.float32
    assert len(answer.aux["known"]) == 3, "a frame has one name"

    again = first.predict([image()], OPTIONS, known=first.kept_views().known(frames[:1]), decoded=(0,))
    assert again.aux["decoded"].tolist() == [0]
    assert "decoded" not in answer.aux
    assert len(set(again.aux["known"])) == 4, "who keeps views anew shares no names with those before"
    assert len(second.predict([image()], OPTIONS, known=second.kept_views().known(frames[:1])).aux["known"]) == 1
    assert "extrinsics" not in again.aux


def test_what_the_model_refuses_concerns_who_asked_alone(connect: Connect) -> None:
    first, second = connect(), connect()
    with pytest.raises(ImageError, match="it is too bright") as refusal:
        first.predict([image(REFUSED)], OPTIONS, known=[1])
    assert refusal.value.index == 1
    with pytest.raises(RuntimeError, match="AxisError: axis -1 is out of bounds"):
        first.predict([np.float32(1.0)], OPTIONS, known=[1])
    assert first.predict([image()], OPTIONS, known=[1]).depth[0, 0, 0] == 7
    assert second.predict([image(9)], OPTIONS, known=[1]).depth[0, 0, 0] == 9
    with pytest.raises(InputError, match=r"holds another model \(model is 'da3-small', not 'da3-base'\)"):
        connect(model="da3-base")


@pytest.mark.slow
def test_a_process_that_dies_is_started_again_once_for_all(connect: Connect) -> None:
    clients = [connect(), connect()]
    before = clients[0].facts.process
    answers: list[int] = []

    def ask(client: SharedModel) -> None:
        answers.append(client.predict([image(SLOW)], OPTIONS, known=[1]).aux["process"])

    threads = [threading.Thread(target=ask, args=(each,)) for each in clients]
    for thread in threads:
        thread.start()
    kill(clients[0])
    for thread in threads:
        thread.join(20)
    assert len(answers) == 2
    (now,) = set(answers)
    assert now != before
    with pytest.raises(RuntimeError, match="front has ended 2 times over these images"):
        clients[1].predict([image(DEADLY)], OPTIONS, known=[1])


@pytest.mark.slow
def test_a_process_that_says_nothing_is_named(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect()
    stuck = client.facts.process
    with monkeypatch.context() as patch:
        patch.setattr(client_side, "SILENCE_S", 2 * process.BEAT_S)
        client.close()  # a new connection has that limit
        views = int(1 + 3 * process.BEAT_S / SLOW_S)
        assert client.predict([image(SLOW)] * views, OPTIONS, known=range(views)).aux["process"] == stuck
        with pytest.raises(RuntimeError, match=f"front, {stuck}, has said nothing for 2 s: end it"):
            client.predict([image(STUCK)], OPTIONS, known=[1])
        with pytest.raises(InputError, match=f"front, {stuck}, has said nothing for 2 s: end it"):
            client.predict([image()], OPTIONS, known=[1])
    kill(client)
    assert client.predict([image()], OPTIONS, known=[1]).aux["process"] != stuck


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_told_and_may_be_asked_for_again(connect: Connect) -> None:
    with pytest.raises(InputError, match="there is no model called missing"):
        connect(model="missing")
    with pytest.raises(InputError, match=r"ends before its model is loaded.*deadly\.log"):
        connect("deadly", model="deadly")
    assert connect().source == "plain"


def test_the_process_ends_after_the_last_has_gone(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LINGER_S", 60.0)
    with Place.of("front").held() as listener:
        serving = threading.Thread(target=process.ModelProcess(load, ModelOptions("da3-small")).serve, args=(listener,))
        serving.start()
        model = connect()
        assert model.predict([image()], OPTIONS, known=[1]).aux["process"] == os.getpid()
        monkeypatch.setattr(process, "LINGER_S", 0.1)
        serving.join(0.5)
        assert serving.is_alive()
        model.close()
        serving.join(10)
        assert not serving.is_alive()
    assert not Place.of("front").address.exists()


def test_only_this_user_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert Place.of("front").address == tmp_path / "da3_ros" / "front.sock"
    assert (tmp_path / "da3_ros").stat().st_mode & 0o777 == 0o700
    (tmp_path / "da3_ros").chmod(0o750)
    with pytest.raises(InputError, match="others can get into"):
        Place.of("front")
    (tmp_path / "da3_ros").rmdir()
    (tmp_path / "da3_ros").symlink_to(tmp_path)
    with pytest.raises(InputError, match="others can get into"):
        Place.of("front")
    for name in ("../front", "", "a" * 33, "a b"):
        with pytest.raises(InputError, match="letters, digits"):
            Place.of(name)


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b'{"arrays": []}',
        b'{"header": {}, "arrays": [["O", [1]]]}',
        b'{"header": {}, "arrays": [["<f4", [-1]]]}',
    ],
)
def test_what_is_no_message_is_no_message(text: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, {"a": [1, None]}, [np.zeros((0, 3)), np.float32(2)])
        header, (empty, two) = receive(theirs)
        assert (header, empty.shape, two.shape, float(two)) == ({"a": [1, None]}, (0, 3), (), 2.0)
        ours.sendall(len(text).to_bytes(4, "little") + text)
        with pytest.raises(Damaged):
            receive(theirs)
        ours.close()
        with pytest.raises(ConnectionError, match="has ended"):
            receive(theirs)
