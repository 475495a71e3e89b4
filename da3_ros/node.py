# SPDX-License-Identifier: Apache-2.0
"""The live node: images in; depth, poses, transforms and clouds out. Lifecycle and parameters; `wiring` has its parts.

configure loads the model and creates what is published, activate subscribes and starts the engine, deactivate stops
it and keeps the model, cleanup lets the model go.
"""

import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from da3_core.errors import InputError
from da3_core.ros_data.maps import MapCount
from da3_ros import engine, parameters
from da3_ros.callbacks import Guard
from da3_ros.demo.shared_memory import remove_own_segments
from da3_ros.executor import ThreadedExecutor
from da3_ros.logs import RosLogHandler
from da3_ros.rclpy_private import lifecycle_state
from da3_ros.settings import Settings
from da3_ros.wiring import Active, Configured

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
DIAGNOSTICS_PERIOD_S = 1.0
ENDING_S = 1.0  # that the model and others have to come to an end once the node is to
LOOK_S = 0.5
THREADS = 6  # transitions, images, diagnostics; one each for an inference, an export and a bag that somebody waits for


class Da3Node(LifecycleNode):
    """The node `da3`.

    Args:
        load_model: returns an object with the method `inference` of `DepthAnything3`.

    Raises:
        InputError: a parameter that does not exist or has a value that is not allowed.
    """

    def __init__(self, load_model: Callable[[Settings], Any]) -> None:
        super().__init__("da3", allow_undeclared_parameters=True)  # so that we refuse them, with their names
        self._load_model = load_model
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._maps = MapCount()
        self._guard = Guard(self.get_logger())
        self._trouble = ""  # what the last transition failed of

        try:
            self._settings = self._in_namespace(parameters.declare(self))
        except InputError:
            self.destroy_node()  # left to the end of the interpreter, its threads may never end
            raise
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(
            DIAGNOSTICS_PERIOD_S,
            self._guard(self._publish_diagnostics),
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),  # also where simulated time stands still
        )

    # Lifecycle

    def autostart(self) -> None:
        """Become active without a lifecycle manager. A failure leaves the node there, to be configured again."""
        if self._settings.autostart and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create what is published and offered."""
        try:
            running, guard = self._running_engine, self._guard
            self._configured = Configured(self, self._load_model, lambda: self._settings, running, guard)
        except Exception as error:
            self._say_failed("configure", error)
        if self._configured is None:  # no longer within the exception, which holds what it was raised in
            engine.release_memory()
            return FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start the engine."""
        configured = self._configured
        assert configured is not None  # the state machine comes here from inactive only
        settings = configured.fitted(self._settings)
        try:
            super().on_activate(state)
            self._active = Active(self, self._diagnostics_name, settings, configured, self._maps, self._guard)
        except Exception as error:
            self._say_failed("activate", error)
            return FAILURE
        self._trouble = ""
        self.get_logger().info(f"Active: windows of {settings.window.size} images of {self._active.images.topics}.")
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, keep the model."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model and its memory go."""
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The end, from any state."""
        self.release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self.release()
        return super().on_error(state)

    def _say_failed(self, transition: str, error: Exception) -> None:
        self._trouble = str(error)
        self.get_logger().error(f"Cannot {transition}: {error}")
        if not isinstance(error, InputError):
            self.get_logger().error(traceback.format_exc())

    def _stop(self) -> None:
        active, self._active = self._active, None
        if active:
            active.close()

    def release(self) -> None:
        """Stop and give back everything that configure made."""
        self._stop()
        configured, self._configured = self._configured, None
        if configured:
            configured.close()
            del configured  # and with it the model
            engine.release_memory()

    def _running_engine(self) -> engine.Engine | None:
        active = self._active
        return active.engine if active else None

    # Parameters and diagnostics

    def _check_parameters(self, changes: list["Parameter[Any]"]) -> SetParametersResult:
        try:
            configured = self._configured is not None
            parameters.changed(self._settings, {each.name: each.value for each in changes}, configured=configured)
        except InputError as refusal:
            return SetParametersResult(successful=False, reason=str(refusal))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, _: list["Parameter[Any]"]) -> None:
        self._settings = self._in_namespace(parameters.read(self))
        for part in (self._configured, self._active):
            if part:
                part.apply(self._settings)

    def _in_namespace(self, settings: Settings) -> Settings:
        map_frame = parameters.frame_in_namespace(settings.map_frame, self.get_namespace())
        return replace(settings, map_frame=map_frame)

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status.append(self._lifecycle_status())
        active = self._active
        if active:
            message.status.extend(active.report())
        self._diagnostics_publisher.publish(message)

    @property
    def _diagnostics_name(self) -> str:
        """With the namespace, since all nodes report on one topic."""
        return self.get_fully_qualified_name().lstrip("/")

    def _lifecycle_status(self) -> DiagnosticStatus:
        status = DiagnosticStatus(
            name=f"{self._diagnostics_name}: lifecycle", level=DiagnosticStatus.OK, hardware_id=self._settings.device
        )
        status.message = f"The node is {lifecycle_state(self)}."
        if self._guard.caught:
            status.level = DiagnosticStatus.WARN
            status.message += f" {sum(self._guard.caught.values())} messages were given up; the log has the first."
            status.values = [KeyValue(key=kind, value=str(count)) for kind, count in self._guard.caught.items()]
        if self._trouble:
            status.level, status.message = DiagnosticStatus.ERROR, self._trouble
        return status


def main(args: list[str] | None = None, load_model: Callable[[Settings], Any] = engine.load_model) -> None:
    """Run the node until it is asked to end."""
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()  # a signal may come within a call of it
    for number in (signal.SIGINT, signal.SIGTERM):  # our own, so that none ever raises in the middle of the end
        signal.signal(number, lambda *_: asked.put(None))
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        node = Da3Node(load_model)
    except InputError as refusal:
        get_logger("da3").fatal(str(refusal))
    if node is None:  # no longer within the exception, which holds what it was raised in
        rclpy.try_shutdown()
        sys.exit(1)
    logging.getLogger("da3_core").addHandler(RosLogHandler(node.get_logger()))

    executor = ThreadedExecutor(THREADS, partial(_log, node))
    executor.add_node(node)
    executor.create_task(node.autostart)

    def run() -> None:
        try:
            executor.spin()
        finally:
            asked.put(None)

    spinning = threading.Thread(target=run, name="da3_executor")
    spinning.start()
    while True:
        with suppress(queue.Empty):
            asked.get(timeout=LOOK_S)  # a signal between two instructions wakes nobody who waits without an end
            break
    end(executor, spinning, node)


def end(executor: ThreadedExecutor, spinning: threading.Thread, node: Da3Node) -> None:
    """End in order, or where the model, or another piece of work, does not stop within `ENDING_S`, at once."""

    def stop() -> None:
        executor.is_ending = True
        rclpy.try_shutdown()
        spinning.join()
        node.release()
        executor.shutdown()
        node.destroy_node()

    stopping = threading.Thread(target=stop, name="da3_stopping", daemon=True)
    stopping.start()
    stopping.join(ENDING_S)
    if stopping.is_alive():
        remove_own_segments()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # the end of the interpreter would wait for what is running


def _log(node: Da3Node, error: BaseException) -> None:
    node.get_logger().error("".join(traceback.format_exception(error)))


if __name__ == "__main__":
    main()
