# SPDX-License-Identifier: Apache-2.0
"""What the node answers to ~/infer, ~/reset and ~/pause, by an engine that runs and without a graph."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from flat_wall import FlatWall
from std_srvs.srv import SetBool, Trigger

from da3_core.stream.frame import Frame
from da3_ros.engine import Engine
from da3_ros.parameters import settings_from
from da3_ros.services import Controls
from da3_ros.window_buffer import Arrival, WindowBuffer


class Asked:
    """Controls with an engine that runs on request alone."""

    def __init__(self, timeout_s: float = 20.0) -> None:
        settings = settings_from({"window.size": 2, "mode": "on_demand"})
        self.model, self.buffer = FlatWall(), WindowBuffer(settings)
        self.sessions: list[int] = []
        self.forgotten: list[str] = []
        self.engine: Engine | None = Engine(
            self.model,
            self.buffer,
            settings,
            on_result=lambda result, window: self.sessions.append(window.session),
            on_refused=lambda refusal: None,
            on_failure=lambda error, in_a_row: None,
        )
        forget = (lambda: self.forgotten.append("trajectory"), lambda: self.forgotten.append("record"))
        self.controls = Controls(lambda: self.engine, forget, timeout_s)

    def put(self, stamp_ns: int) -> None:
        frame = Frame(np.zeros((24, 32, 3), np.uint8), stamp_ns, "camera")
        self.buffer.put(Arrival(stamp_ns, "camera", (24, 32), lambda: (frame,)))

    def infer(self) -> tuple[bool, str]:
        answer = self.controls.infer(Trigger.Request(), Trigger.Response())
        return answer.success, answer.message

    def pause(self, wanted: bool) -> tuple[bool, str]:
        answer = self.controls.pause(SetBool.Request(data=wanted), SetBool.Response())
        return answer.success, answer.message

    def reset(self) -> tuple[bool, str]:
        answer = self.controls.reset(Trigger.Request(), Trigger.Response())
        return answer.success, answer.message


@pytest.fixture
def asked() -> Iterator[Callable[..., Asked]]:
    made: list[tuple[Asked, Engine]] = []

    def make(**options: float) -> Asked:
        it = Asked(**options)
        assert it.engine
        it.engine.start()
        made.append((it, it.engine))
        return it

    yield make
    for it, engine in made:
        it.model.gate.set()
        engine.stop()


def test_infer_answers_what_was_inferred(asked):
    it = asked()
    assert it.infer() == (False, "No image has arrived yet; publish images, then ask again.")
    it.put(1)
    success, message = it.infer()
    assert success
    assert message.startswith("Inferred 1 views, 1 of them new, in ")
    assert it.sessions == [0]


def test_infer_answers_why_the_model_failed(asked):
    it = asked()
    it.model.failing = lambda call: call == 1
    it.put(1)
    assert it.infer() == (False, "The inference failed: call 1")
    it.put(2)
    assert it.infer()[0]


def test_infer_does_not_wait_for_ever(asked):
    it = asked(timeout_s=0.1)
    it.model.gate.clear()
    it.put(1)
    assert it.infer() == (False, "The inference has not ended within 0 s; see /diagnostics.")


def test_reset_forgets_the_map_and_what_was_published_of_it(asked):
    it = asked()
    it.put(1)
    assert it.infer()[0]
    assert it.reset() == (True, "The next image starts a new map.")
    assert it.forgotten == ["trajectory", "record"]
    assert it.infer() == (False, "No image has arrived yet; publish images, then ask again.")
    it.put(2)
    assert it.infer()[0]
    assert it.sessions == [0, 1]


def test_pause_and_its_end(asked):
    it = asked()
    assert it.pause(True) == (True, "Paused.")
    assert it.engine.paused
    assert it.pause(False) == (True, "Running.")
    assert not it.engine.paused


def test_a_node_that_is_not_active_says_so(asked):
    it = asked()
    it.engine = None
    for answer in (it.infer(), it.pause(True), it.reset()):
        assert answer == (False, "The node is not active; activate it first.")
    assert it.forgotten == []
