# SPDX-License-Identifier: Apache-2.0
"""The engine's thread: when it infers, what it does with failures, and that a reset or a stop beats an inference."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from flat_wall import WAIT_S, FlatWall
from stream_lab.noise import CASES, DisturbedModel
from stream_lab.worlds import walk

from da3_core.errors import ImageError, InputError
from da3_core.model.presets import find_preset
from da3_core.options import InferenceOptions, ModelOptions
from da3_core.prediction import Prediction
from da3_core.ros_data.images import RefusedMessage
from da3_core.sharing import process
from da3_core.sharing.place import Place
from da3_core.stream.frame import Frame
from da3_core.stream.session import WindowResult
from da3_ros.engine import Engine, close_model, load_model
from da3_ros.parameters import settings_from
from da3_ros.window_buffer import Arrival, WindowBuffer


class Rig:
    """An engine with everything around it; what it reports is in lists."""

    def __init__(self, model: FlatWall | None = None, **values: object) -> None:
        values = {"window.size": 2, **{name.replace("__", "."): value for name, value in values.items()}}
        settings = settings_from(values)
        self.model = model or FlatWall()
        self.buffer = WindowBuffer(settings)
        self.results: list[tuple[WindowResult, int]] = []
        self.refusals: list[RefusedMessage] = []
        self.failures: list[tuple[str, int]] = []
        self.changed = threading.Condition()
        self.after_result: Callable[[], object] = lambda: None
        self.engine = Engine(
            self.model,
            self.buffer,
            settings,
            on_result=lambda result, window: (self.note(self.results, (result, window.session)), self.after_result()),
            on_refused=lambda refusal: self.note(self.refusals, refusal),
            on_failure=lambda error, in_a_row: self.note(self.failures, (str(error), in_a_row)),
        )
        self.engine.start()

    def note(self, into: list[Any], what: Any) -> None:
        with self.changed:
            into.append(what)
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S)

    def put(self, *stamps_ns: int, damaged: bool = False) -> None:
        for stamp_ns in stamps_ns:
            self.buffer.put(Arrival(stamp_ns, "camera", (24, 32), lambda at=stamp_ns: (decode(at, damaged),)))

    def stamps(self) -> list[list[int]]:
        return [[view.frame.stamp_ns for view in result.views] for result, _ in self.results]


def decode(stamp_ns: int, damaged: bool) -> Frame:
    if damaged:
        raise RefusedMessage("undecodable", "The compressed image is damaged.")
    return Frame(np.zeros((24, 32, 3), np.uint8), stamp_ns, "camera")


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(*model: FlatWall, **values: object) -> Rig:
        rigs.append(Rig(*model, **values))
        return rigs[-1]

    yield make
    for each in rigs:
        each.model.gate.set()
        each.engine.stop()


def test_windows_become_results_of_one_session(rig):
    it = rig()
    it.put(1, 2)
    it.wait_for(lambda: len(it.results) == 1)
    it.put(3)
    it.wait_for(lambda: len(it.results) == 2)
    assert it.stamps() == [[1, 2], [2, 3]]
    assert [view.is_new for view in it.results[1][0].views] == [False, True]
    assert it.results[0][1] == it.results[1][1]


class Hall(FlatWall):
    """A model that knows the truth about a walk, of which every image is as grey as it is far along."""

    def __init__(self) -> None:
        super().__init__()
        self.disturbed = DisturbedModel(walk("hall", 280, 0.23, seed=3), CASES["real"], 3)

    def predict(self, image: list[np.ndarray], options: InferenceOptions, **_: object) -> Prediction:
        self.views.append(len(image))
        return self.disturbed([Frame(each, stamp_ns=round(each.mean() / 4)) for each in image])


def test_loops_are_closed_between_windows_of_the_stream(rig):
    """On a way there and back."""
    it = rig(Hall(), window__size=8, window__stride=4, every_frame=True, loop__closure=True)
    way = [*range(52), *range(51, 0, -1)]
    for number, place in enumerate(way):
        image = np.full((48, 64, 3), 4 * place, np.uint8)
        frame = Frame(image, number, "camera")
        it.buffer.put(Arrival(number, "camera", (48, 64), lambda frame=frame: (frame,)))
        windows = max(0, (number - 3) // 4)
        it.wait_for(lambda windows=windows: len(it.results) >= windows)
        for thread in threading.enumerate():
            if thread.name == "da3_loops":
                thread.join(WAIT_S)
    assert it.failures == []
    assert any(result.bend for result, _ in it.results)
    assert it.model.calls > len(it.results)


def test_a_failed_inference_is_reported_and_the_next_window_is_tried(rig):
    it = rig(max_consecutive_failures=3)
    it.model.failing = lambda call: call in (1, 2)
    it.put(1, 2)
    it.wait_for(lambda: len(it.failures) == 1)
    it.put(3)
    it.wait_for(lambda: len(it.failures) == 2)
    it.put(4)
    it.wait_for(lambda: len(it.results) == 1)
    assert it.failures == [("call 1", 1), ("call 2", 2)]
    assert it.engine.next_try_s == 0


def test_the_next_window_is_inferred_while_the_last_is_published(rig):
    it, published = rig(), threading.Event()
    it.after_result = lambda: published.wait(WAIT_S)
    it.put(1, 2)
    it.wait_for(lambda: len(it.results) == 1)
    it.put(3)
    assert all(it.model.entered.acquire(timeout=WAIT_S) for _ in range(2))
    assert not published.is_set()
    published.set()
    it.wait_for(lambda: len(it.results) == 2)
    assert it.stamps() == [[1, 2], [2, 3]]


def test_a_failed_publication_is_reported_and_the_next_window_is_tried(rig):
    it = rig()
    it.after_result = lambda: 1 / 0
    it.put(1, 2)
    it.wait_for(lambda: len(it.failures) == 1)
    asked = it.engine.infer_now()
    with pytest.raises(ZeroDivisionError):
        asked.result(WAIT_S)
    assert it.failures == [("division by zero", 1), ("division by zero", 2)]
    it.after_result = lambda: None
    it.put(3)
    it.wait_for(lambda: len(it.results) == 3)


def test_too_many_failures_in_a_row_make_it_pause_longer_and_longer_until_one_succeeds(rig, monkeypatch):
    """By a clock of our own."""
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr("da3_ros.engine.time", SimpleNamespace(monotonic=lambda: clock.now_s))
    it = rig(max_consecutive_failures=3)
    failures = 16
    it.model.failing = lambda call: call <= failures
    waits_s = []
    it.put(1)
    for count in range(1, failures + 1):
        it.put(1 + count)
        assert it.model.calls == count - 1
        clock.now_s += waits_s[-1] if waits_s else 0
        it.wait_for(lambda n=count: len(it.failures) == n)
        waits_s.append(it.engine.next_try_s)
    clock.now_s += waits_s[-1]
    it.put(100)
    it.wait_for(lambda: len(it.results) == 1)
    assert waits_s == [0, 0, 2, 4, 8, 16, 32, 64, 128, 256, *6 * [300]]
    assert it.engine.next_try_s == 0


def test_an_image_that_the_model_cannot_take_is_refused_and_is_no_failure(rig):
    def refuse_the_newest(call: int) -> bool:
        if call < 7:
            raise ImageError(1, f"image 1: 32 x 2 pixels is too narrow, at call {call}")
        return False

    it = rig(max_consecutive_failures=1)
    it.model.failing = refuse_the_newest
    for stamp_ns in range(1, 8):
        it.put(stamp_ns)
        it.wait_for(lambda n=stamp_ns: len(it.refusals) == n - 1)
    it.put(8)
    it.wait_for(lambda: len(it.results) == 1)
    assert it.stamps() == [[1, 8]]
    assert it.failures == []
    assert it.buffer.counts().refused == {"unusable": 6}
    said = "The model cannot take an image: image 1: 32 x 2 pixels is too narrow, at call 1."
    assert str(it.refusals[0]) == said


def test_an_image_that_cannot_be_decoded_costs_no_other_image(rig):
    it = rig(window__size=3)
    it.put(1)
    it.put(2, damaged=True)
    it.put(3)
    it.wait_for(lambda: len(it.refusals) == 1)
    it.put(4)
    it.wait_for(lambda: len(it.results) == 1)
    assert it.stamps() == [[1, 3, 4]]
    assert it.buffer.counts().refused == {"undecodable": 1}


def test_a_reset_during_an_inference_drops_its_result(rig):
    it = rig()
    it.model.gate.clear()
    it.put(1, 2)
    assert it.model.entered.acquire(timeout=WAIT_S)
    it.engine.reset()
    it.model.gate.set()
    it.put(3, 4)
    it.wait_for(lambda: len(it.results) == 1)
    assert it.stamps() == [[3, 4]]
    assert all(view.is_new for view in it.results[0][0].views)


def test_a_stop_during_an_inference_publishes_nothing(rig):
    it = rig()
    it.model.gate.clear()
    it.put(1, 2)
    assert it.model.entered.acquire(timeout=WAIT_S)
    waiting = it.engine.infer_now()
    threading.Timer(0.05, it.model.gate.set).start()
    it.engine.stop()
    assert it.results == []
    with pytest.raises(InputError, match="deactivated"):
        waiting.result(WAIT_S)


def test_on_demand_infers_only_when_asked(rig):
    it = rig(mode="on_demand", window__size=3)
    with pytest.raises(InputError, match="No image has arrived"):
        it.engine.infer_now().result(WAIT_S)
    it.put(1, 2, 3, 4)
    assert "3 views, 3 of them new" in it.engine.infer_now().result(WAIT_S)
    it.put(5, 6)
    assert "3 views, 1 of them new" in it.engine.infer_now().result(WAIT_S)
    assert it.stamps() == [[2, 3, 4], [3, 4, 6]]
    assert it.model.calls == 2


def test_paused_it_takes_nothing_but_what_is_asked_for(rig):
    it = rig()
    it.engine.paused = True
    it.put(1, 2)
    assert "2 views" in it.engine.infer_now().result(WAIT_S)
    it.put(3)
    it.engine.paused = False
    it.wait_for(lambda: len(it.results) == 2)
    assert it.stamps() == [[1, 2], [2, 3]]


def test_a_failure_reaches_who_asked(rig):
    it = rig(mode="on_demand")
    it.model.failing = lambda call: True
    it.put(1, 2)
    with pytest.raises(MemoryError, match="call 1"):
        it.engine.infer_now().result(WAIT_S)
    assert it.failures == [("call 1", 1)]


def frames(*stamps_ns: int) -> list[Frame]:
    return [decode(stamp_ns, False) for stamp_ns in stamps_ns]


def test_an_inference_aside_is_none_of_the_stream(rig):
    it = rig()
    it.put(1, 2)
    it.wait_for(lambda: len(it.results) == 1)
    prediction = it.engine.infer_in_background(frames(7, 8, 9)).result(WAIT_S)
    assert len(prediction.depth) == 3
    it.put(3)
    it.wait_for(lambda: len(it.results) == 2)
    assert it.stamps() == [[1, 2], [2, 3]]
    assert it.results[0][1] == it.results[1][1]


def test_paused_it_still_infers_aside(rig):
    it = rig()
    it.engine.paused = True
    it.put(1, 2)
    for _ in range(3):
        assert len(it.engine.infer_in_background(frames(7)).result(WAIT_S).depth) == 1
    assert it.results == []


def test_what_fails_aside_fails_only_there(rig):
    it = rig(max_consecutive_failures=1)
    it.model.failing = lambda call: call == 1
    with pytest.raises(MemoryError, match="call 1"):
        it.engine.infer_in_background(frames(7)).result(WAIT_S)
    it.put(1, 2)
    it.wait_for(lambda: len(it.results) == 1)
    assert it.failures == []


def test_a_stop_cancels_what_waits_aside(rig):
    it = rig()
    it.model.gate.clear()
    it.put(1, 2)
    assert it.model.entered.acquire(timeout=WAIT_S)
    waiting = it.engine.infer_in_background(frames(7))
    threading.Timer(0.05, it.model.gate.set).start()
    it.engine.stop()
    assert waiting.cancelled()
    assert it.engine.infer_in_background(frames(8)).cancelled()
    assert it.model.calls == 1


def test_what_is_cancelled_aside_is_not_inferred(rig):
    it = rig()
    it.model.gate.clear()
    it.put(1, 2)
    assert it.model.entered.acquire(timeout=WAIT_S)
    assert it.engine.infer_in_background(frames(7)).cancel()
    it.model.gate.set()
    it.engine.infer_in_background(frames(8)).result(WAIT_S)
    assert it.model.calls == 2


def test_a_stream_whose_windows_wait_leaves_a_tenth_of_the_time_aside(rig, monkeypatch):
    """By a clock that says how many inferences have begun. One is asked for aside, always, as soon as the one before
    has ended, and as long as the stream has images there is a window that waits."""
    it = rig(mode="on_demand", every_frame=True, window__size=2)
    monkeypatch.setattr("da3_ros.engine.time", SimpleNamespace(monotonic=lambda: float(it.model.calls)))

    def ask_again(before: Any = None) -> None:
        if before is None or not before.cancelled():
            it.engine.infer_in_background(frames(7)).add_done_callback(ask_again)

    it.put(*range(1, 43))
    ask_again()
    it.engine.apply(settings_from({"every_frame": True, "window.size": 2}))
    it.wait_for(lambda: len(it.results) == 41)
    live = np.flatnonzero(np.array(it.model.views) == 2)
    aside = sorted(set(range(live[0], live[40])) - set(live))
    assert len(aside) in (4, 5)
    assert set(np.diff(aside)) == {10}


def test_an_export_that_the_model_cannot_feed_is_refused(rig):
    it = rig()
    it.engine.check_export("tum-glb", 2)
    it.model.preset = SimpleNamespace(name="mono", has_poses=False, has_gaussians=False)
    it.engine.check_export("tum-glb", 2, poses_known=True)
    it.engine.check_export("mini_npz", 2)
    with pytest.raises(InputError, match="mono cannot be exported as 'tum'"):
        it.engine.check_export("tum", 2)


class LoadedWall(FlatWall):
    """What a process that is shared says of a model."""

    preset = find_preset("da3-small")
    source, device, warning, engine_status, precision_status = "wall", "cpu", None, "torch", "float32"

    @staticmethod
    def kept_views() -> SimpleNamespace:
        return SimpleNamespace(known=tuple)


def test_nodes_share_the_model_of_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(process, "LINGER_S", WAIT_S)
    wall = LoadedWall()
    named = {"engine_process": "front", "model": "da3-small"}
    with Place.of("front").held() as listener:
        shared = process.ModelProcess(lambda options: wall, ModelOptions(model="da3-small"))
        serving = threading.Thread(target=shared.serve, args=(listener,))
        serving.start()
        models = [load_model(settings_from(named)) for _ in range(2)]
        monkeypatch.setattr(process, "LINGER_S", 0.0)
        wall.gate.clear()
        with pytest.raises(InputError, match="precision is 'auto', not 'float16'"):
            load_model(settings_from({**named, "precision": "float16"}))
        rigs = [Rig(each, engine_process="front") for each in models]
        for each in rigs:
            each.put(1, 2)
        assert wall.entered.acquire(timeout=WAIT_S)
        assert not wall.entered.acquire(timeout=0.1), "the other has to wait for its turn"
        wall.gate.set()
        for each in rigs:
            each.wait_for(lambda rig=each: rig.stamps() == [[1, 2]])
            assert each.engine.facts()["engine process"].endswith("shared by 2")
            each.engine.stop()
            close_model(each.model)
        serving.join(WAIT_S)
        assert not serving.is_alive()
