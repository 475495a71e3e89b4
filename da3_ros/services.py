# SPDX-License-Identifier: Apache-2.0
"""What can be asked of an active node: one inference, a new map, a pause."""

from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from da3_core.errors import InputError
from da3_core.stream.record import SessionRecord
from da3_ros.bag_service import BagService
from da3_ros.engine import Engine
from da3_ros.publishers import Publishers

INFERENCE_TIMEOUT_S = 600.0


class Services:
    """`~/infer`, `~/reset` and `~/pause`, from construction to `close`.

    Args:
        engine: the running one, or None while the node is not active.
        record: what a reset forgets besides the engine's map and the published trajectory.
        bags: what a reset ends.
    """

    def __init__(
        self,
        node: Node,
        engine: Callable[[], Engine | None],
        publishers: Publishers,
        record: SessionRecord,
        bags: BagService,
    ) -> None:
        self._node, self._engine, self._publishers, self._record, self._bags = node, engine, publishers, record, bags
        group = ReentrantCallbackGroup()  # waiting for an inference must not hold up the others
        self._services = [
            node.create_service(Trigger, "~/infer", self._infer, callback_group=group),
            node.create_service(Trigger, "~/reset", self._reset, callback_group=group),
            node.create_service(SetBool, "~/pause", self._pause, callback_group=group),
        ]

    def close(self) -> None:
        for service in self._services:
            self._node.destroy_service(service)

    def _infer(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, lambda engine: engine.infer_now().result(INFERENCE_TIMEOUT_S))

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset(engine: Engine) -> str:
            engine.reset()
            self._publishers.reset()
            self._record.clear()
            self._bags.cancel()
            return "The next image starts a new map."

        return self._answer(response, reset)

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        def pause(engine: Engine) -> str:
            engine.paused = request.data
            return "Paused." if request.data else "Running."

        return self._answer(response, pause)

    def _answer(self, response: Any, do: Callable[[Engine], str]) -> Any:
        """Fill in what `do` says of the running engine, or why it could not."""
        engine = self._engine()
        if engine is None:
            response.message = "The node is not active; activate it first."
            return response
        try:
            response.message, response.success = do(engine), True
        except InputError as refusal:
            response.message = str(refusal)
        except FutureTimeoutError:
            response.message = f"The inference has not ended within {INFERENCE_TIMEOUT_S:.0f} s; see /diagnostics."
        except Exception as error:  # of the model, logged already
            response.message = f"The inference failed: {error}"
        return response
