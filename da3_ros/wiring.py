# SPDX-License-Identifier: Apache-2.0
"""How the parts of the node hang together: what exists while it is configured, and what while it is active.

image, camera_info, odom -> ImageInput -> WindowBuffer -> Engine (model and session) -> Publications -> topics, /tf
"""

import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode

from da3_core.errors import InputError
from da3_core.ros_data.camera_places import CameraPlaces
from da3_core.ros_data.maps import MapCount
from da3_core.ros_data.transform_tree import TransformTree
from da3_core.stream.record import SessionRecord
from da3_core.stream.session import WindowResult
from da3_ros import engine
from da3_ros.bag_service import BagService
from da3_ros.budget import fitted, told
from da3_ros.callbacks import Guard
from da3_ros.diagnostics import Diagnostics
from da3_ros.engine import Engine
from da3_ros.export_service import ExportService
from da3_ros.image_input import ImageInput
from da3_ros.publishers import Publications, close_publishers, open_publishers
from da3_ros.services import Controls, Services
from da3_ros.settings import Settings
from da3_ros.transform_input import TransformInput
from da3_ros.window_buffer import LiveWindow, WindowBuffer


class Configured:
    """The model, what is published and what is offered, from construction to `close`.

    Args:
        load_model: see `Da3Node`.
        settings: the present ones.
        running: the engine, or None while the node is not active.
        guard: of what messages lead to.
    """

    def __init__(
        self,
        node: LifecycleNode,
        load_model: Callable[[Settings], Any],
        settings: Callable[[], Settings],
        running: Callable[[], Engine | None],
        guard: Guard,
    ) -> None:
        now = settings()
        with ExitStack() as undo:  # what there is when a part cannot be made
            tree = TransformTree(now.map_frame, now.tf.max_extrapolation_s)
            # Beside odometry of a topic, that of /tf does not count for poses, but still for what is published.
            placing = TransformTree("", now.tf.max_extrapolation_s) if now.pose_source == "odom_topic" else tree
            self.places = CameraPlaces(placing, now.pose_source, now.odom_frame)
            # Before the model loads, so that static transforms are there after it.
            undo.callback(TransformInput(node, list({tree, placing}), guard).close)
            node.get_logger().info(f"Loading {now.model} ...")
            self.model = load_model(now)
            undo.callback(engine.close_model, self.model)
            if less := told(now, self.fitted(now)):
                node.get_logger().warning(less)
            name = engine.model_name(self.model, now)
            publishers = open_publishers(node, now)
            undo.callback(close_publishers, node, publishers)
            self.publications = Publications(
                publishers,
                lambda text: node.get_logger().warning(text, throttle_duration_sec=10.0),
                now,
                tree,
                name,
            )
            self.record = SessionRecord(now.export.max_views)
            undo.callback(ExportService(node, now.export.root, self.record, now.map_frame, self.places).close)
            self.bags = BagService(node, settings, running, name)
            undo.callback(self.bags.close)
            controls = Controls(running, (self.publications.reset, self.record.clear, self.bags.cancel))
            undo.callback(Services(node, controls).close)
            self.close = undo.pop_all().close

    def fitted(self, settings: Settings) -> Settings:
        """The settings within the budget of memory; raises InputError where nothing fits."""
        return fitted(settings, self.model.preset) if settings.memory.budget_mb else settings

    def apply(self, settings: Settings) -> None:
        """Take over settings; those that are not dynamic must stay."""
        self.publications.apply(settings)


class Active:
    """From the camera to diagnostics, from construction, which starts the engine, to `close`.

    Args:
        name: of the node, in diagnostics.
        maps, guard: of the whole life of the node.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        settings: Settings,
        parts: Configured,
        maps: MapCount,
        guard: Guard,
    ) -> None:
        self._logger, self._parts, self._maps = node.get_logger(), parts, maps
        maps.restart()
        buffer = WindowBuffer(settings)
        with ExitStack() as undo:  # from the last to the first: when nothing arrives any more, the engine, then its bag
            undo.callback(parts.bags.wait)
            parts.record.clear()
            self.engine = Engine(
                parts.model,
                buffer,
                settings,
                on_result=self._on_result,
                on_refused=lambda refusal: self.images.report(refusal),
                on_failure=self._on_failure,
            )
            undo.callback(self.engine.stop)
            self.images = ImageInput(node, settings, buffer, guard, parts.places)
            undo.callback(self.images.close)
            self._diagnostics = Diagnostics(
                name,
                settings,
                lambda: node.get_clock().now().nanoseconds,
                frames=buffer.counts,
                images=self.images.state,
                engine=self.engine,
                outputs=parts.publications.state,
                namesakes=partial(_namesakes, node),
            )
            self.engine.start()
            self.close = undo.pop_all().close

    def apply(self, settings: Settings) -> None:
        """Take over settings; those that are not dynamic must stay."""
        settings = self._parts.fitted(settings)
        for part in (self.engine, self._diagnostics, self.images):
            part.apply(settings)

    def report(self) -> list[DiagnosticStatus]:
        """Diagnostics, once a second."""
        self.images.watch()
        return self._diagnostics.report()

    # What the engine's threads report

    def _on_result(self, result: WindowResult, window: LiveWindow) -> None:
        result = self._maps.take_in(result, window.session, window.reason)
        assert self._maps.present is not None
        self._parts.record.add(result, window.session)
        self._parts.publications.publish(result, self._maps.present, window.frame_sets)
        self._diagnostics.observe(result)

    def _on_failure(self, error: Exception, in_a_row: int) -> None:
        self._diagnostics.observe_failure(error)
        pause = f" The next try is in {wait_s:.0f} s." if (wait_s := self.engine.next_try_s) else ""
        self._logger.error(f"Inference failed ({in_a_row} in a row): {error}{pause}")
        if not isinstance(error, InputError) and in_a_row == 1:
            self._logger.error("".join(traceback.format_exception(error)))


def _namesakes(node: LifecycleNode) -> int:
    """How many other nodes of the graph have its full name."""
    return int(node.get_node_names_and_namespaces().count((node.get_name(), node.get_namespace()))) - 1
