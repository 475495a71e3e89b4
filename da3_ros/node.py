# SPDX-License-Identifier: Apache-2.0
"""The live node: images in; depth, poses, transforms and clouds out. Wiring only.

    image, camera_info -> CameraInput -> WindowBuffer -> Engine (model and session) -> Publishers -> topics, /tf

configure loads the model and creates what is published, activate subscribes and starts the engine, deactivate stops
it and keeps the model, cleanup lets the model go.
"""

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from da3_core.errors import InputError
from da3_core.ros_data.transform_tree import TransformTree
from da3_core.stream.record import SessionRecord
from da3_core.stream.session import WindowResult
from da3_ros import engine, parameters
from da3_ros.bag_service import BagService
from da3_ros.camera_input import CameraInput
from da3_ros.diagnostics import Diagnostics
from da3_ros.engine import Engine
from da3_ros.export_service import ExportService
from da3_ros.logs import RosLogHandler
from da3_ros.publishers import Publishers
from da3_ros.services import Services
from da3_ros.settings import Settings
from da3_ros.window_buffer import WindowBuffer

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
DIAGNOSTICS_PERIOD_S = 1.0
TF_DEPTH = 100
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
        self._model: Any = None
        self._outputs: Publishers | None = None
        self._controls: Services | None = None
        self._record: SessionRecord | None = None
        self._exports: ExportService | None = None
        self._bags: BagService | None = None
        self._tf_subscriptions: list[Any] = []
        self._camera: CameraInput | None = None
        self._engine: Engine | None = None
        self._diagnostics: Diagnostics | None = None
        self._trouble = ""  # what the last transition failed of, or why the node deactivated itself

        try:
            self._settings = parameters.declare(self)
        except InputError:
            self.destroy_node()  # left to the end of the interpreter, its threads may never end
            raise
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(
            DIAGNOSTICS_PERIOD_S,
            self._publish_diagnostics,
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
        settings = self._settings
        try:
            self._tree = TransformTree(settings.map_frame, settings.tf.max_extrapolation_s)
            if settings.tf.mode != "none":
                self._subscribe_transforms()  # before the model loads, so that static transforms are there after it
            self.get_logger().info(f"Loading {settings.model} ...")
            self._model = self._load_model(settings)
            self._outputs = Publishers(self, settings, self._tree, engine.model_name(self._model, settings))
            self._record = SessionRecord(settings.export.max_views)
            self._exports = ExportService(self, settings.export.root, self._record)
            name = engine.model_name(self._model, settings)
            self._bags = BagService(self, lambda: self._settings, lambda: self._engine, name)
            self._controls = Services(self, lambda: self._engine, self._outputs, self._record, self._bags)
        except Exception as error:
            self.release()
            return self._failed("configure", error)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start the engine."""
        settings = self._settings
        try:
            super().on_activate(state)
            self._record.clear()
            buffer = WindowBuffer(settings)
            self._camera = CameraInput(self, settings, buffer)
            self._engine = Engine(
                self._model,
                buffer,
                settings,
                on_result=self._on_result,
                on_refused=self._camera.report,
                on_failure=self._on_failure,
                on_give_up=lambda: self.executor.create_task(self._deactivate_after_failures),
            )
            self._diagnostics = Diagnostics(
                self._diagnostics_name,
                settings,
                lambda: self.get_clock().now().nanoseconds,
                buffer=buffer,
                camera=self._camera,
                engine=self._engine,
                publishers=self._outputs,
            )
            self._engine.start()
        except Exception as error:
            self._stop()
            return self._failed("activate", error)
        self._trouble = ""
        self.get_logger().info(f"Active: windows of {settings.window.size} images of {self._camera.topic}.")
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

    def _failed(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        self._trouble = str(error)
        self.get_logger().error(f"Cannot {transition}: {error}")
        if not isinstance(error, InputError):
            self.get_logger().error(traceback.format_exc())
        return FAILURE

    def _stop(self) -> None:
        """Subscriptions first, so that nothing arrives any more."""
        if self._camera:
            self._camera.close()
        if self._engine:
            self._engine.stop()
        self._camera = self._engine = self._diagnostics = None
        if self._bags:
            self._bags.wait()

    def release(self) -> None:
        """Stop and give back everything that configure made."""
        self._stop()
        for part in (self._controls, self._bags, self._exports, self._outputs):
            if part:
                part.close()
        for subscription in self._tf_subscriptions:
            self.destroy_subscription(subscription)
        self._tf_subscriptions.clear()
        self._controls = self._bags = self._exports = self._record = self._outputs = None
        if self._model is not None:
            self._model = None
            engine.release_memory()

    def _subscribe_transforms(self) -> None:
        group = MutuallyExclusiveCallbackGroup()
        latched = QoSProfile(depth=TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic, qos, static in (("/tf", QoSProfile(depth=TF_DEPTH), False), ("/tf_static", latched, True)):
            self._tf_subscriptions.append(
                self.create_subscription(
                    TFMessage,
                    topic,
                    lambda message, static=static: self._tree.add(message.transforms, static),
                    qos,
                    callback_group=group,
                )
            )

    # What the engine's thread reports

    def _on_result(self, result: WindowResult, session: int) -> None:
        self._record.add(result, session)
        self._outputs.publish(result, session)
        self._diagnostics.observe(result)

    def _on_failure(self, error: Exception, in_a_row: int) -> None:
        self._diagnostics.observe_failure(error)
        self.get_logger().error(f"Inference failed ({in_a_row} in a row): {error}")
        if not isinstance(error, InputError) and in_a_row == 1:
            self.get_logger().error("".join(traceback.format_exception(error)))

    def _deactivate_after_failures(self) -> None:
        self.get_logger().error("Deactivating after too many failed inferences; activate the node to try again.")
        self.trigger_deactivate()
        self._trouble = "Deactivated after too many failed inferences."

    # Parameters and diagnostics

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            configured = self._outputs is not None
            parameters.changed(self._settings, {each.name: each.value for each in changes}, configured=configured)
        except InputError as refusal:
            return SetParametersResult(successful=False, reason=str(refusal))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, _: list[Parameter]) -> None:
        self._settings = parameters.read(self)
        for part in (self._outputs, self._engine, self._diagnostics, self._camera):
            if part:
                part.apply(self._settings)

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status.append(self._lifecycle_status())
        camera, diagnostics = self._camera, self._diagnostics
        if camera and diagnostics:
            camera.watch(self._settings.watchdog_s)
            message.status.extend(diagnostics.report())
        self._diagnostics_publisher.publish(message)

    @property
    def _diagnostics_name(self) -> str:
        """With the namespace, since all nodes report on one topic."""
        return self.get_fully_qualified_name().lstrip("/")

    def _lifecycle_status(self) -> DiagnosticStatus:
        status = DiagnosticStatus(name=f"{self._diagnostics_name}: lifecycle", level=DiagnosticStatus.OK)
        status.message = f"The node is {self._state_machine.current_state[1]}."
        if self._trouble:
            status.level, status.message = DiagnosticStatus.ERROR, self._trouble
        return status


def main(args: Sequence[str] | None = None, load_model: Callable[[Settings], Any] = engine.load_model) -> None:
    """Run the node until it is interrupted."""
    rclpy.init(args=args)
    node = None
    try:
        node = Da3Node(load_model)
    except InputError as refusal:
        get_logger("da3").fatal(str(refusal))
    if node is None:  # no longer within the exception, which holds what it was raised in
        rclpy.try_shutdown()
        sys.exit(1)
    logging.getLogger("da3_core").addHandler(RosLogHandler(node.get_logger()))

    executor = MultiThreadedExecutor(num_threads=THREADS)
    executor.add_node(node)
    executor.create_task(node.autostart)
    try:
        spin(executor, node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.release()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def spin(executor: MultiThreadedExecutor, node: Da3Node) -> None:
    """Go on after an exception in a callback: one bad message must not end the node."""
    while rclpy.ok():
        try:
            executor.spin()
        except (KeyboardInterrupt, ExternalShutdownException):
            raise
        except Exception:
            if rclpy.ok():
                node.get_logger().error(traceback.format_exc())


if __name__ == "__main__":
    main()
