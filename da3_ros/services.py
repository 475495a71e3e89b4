# SPDX-License-Identifier: Apache-2.0
"""What can be asked of an active node: one inference, a new map, a pause."""

from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from da3_core.errors import InputError
from da3_ros.engine import Engine

INFERENCE_TIMEOUT_S = 600.0


class Controls:
    """The answers to what can be asked.

    Args:
        engine: the running one, or None while the node is not active.
        on_reset: called when the engine has forgotten its map.
        timeout_s: how long an inference is waited for.
    """

    def __init__(
        self,
        engine: Callable[[], Engine | None],
        on_reset: Sequence[Callable[[], object]],
        timeout_s: float = INFERENCE_TIMEOUT_S,
    ) -> None:
        self._engine, self._on_reset, self._timeout_s = engine, on_reset, timeout_s

    def infer(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, lambda engine: engine.infer_now().result(self._timeout_s))

    def reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset(engine: Engine) -> str:
            engine.reset()
            for do in self._on_reset:
                do()
            return "The next image starts a new map."

        return self._answer(response, reset)

    def pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
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
            response.message = f"The inference has not ended within {self._timeout_s:.0f} s; see /diagnostics."
        except Exception as error:  # of the model, logged already
            response.message = f"The inference failed: {error}"
        return response


class Services:
    """`~/infer`, `~/reset` and `~/pause`, from construction to `close`."""

    def __init__(self, node: Node, controls: Controls) -> None:
        self._node = node
        group = ReentrantCallbackGroup()  # waiting for an inference must not hold up the others
        self._services = [
            node.create_service(Trigger, "~/infer", controls.infer, callback_group=group),
            node.create_service(Trigger, "~/reset", controls.reset, callback_group=group),
            node.create_service(SetBool, "~/pause", controls.pause, callback_group=group),
        ]

    def close(self) -> None:
        for service in self._services:
            self._node.destroy_service(service)
