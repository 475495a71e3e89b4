# SPDX-License-Identifier: Apache-2.0
"""`~/process_bag` and `~/process_bag_action`: a bag through the model of the running node, beside the stream."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from typing import Any, TypeAlias

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.process import BagSummary, Stopped, process_bag
from da3_core.bag.read import BagReader
from da3_core.errors import InputError
from da3_core.export import export, left_out
from da3_core.prediction import Prediction
from da3_core.ros_data.conventions import in_map_axes
from da3_core.storage.allowed_folders import AllowedFolders
from da3_core.stream.frame import Frame
from da3_core.stream.inference import Decoded
from da3_core.stream.record import SessionRecord
from da3_ros.action import ProcessBag as ProcessBagAction
from da3_ros.background import BackgroundWork, as_sentence
from da3_ros.bag_request import BagJob, checked
from da3_ros.engine import Engine
from da3_ros.settings import Settings
from da3_ros.srv import ProcessBag

POLL_S = 0.1  # how soon a bag that waits for the model notices that it is to end

Feedback: TypeAlias = ProcessBagAction.Feedback
Tell = Callable[[Feedback], object]


class BagService:
    """The service and the action, from construction to `close`, one bag at a time.

    A bag has a session of its own. It is read, aligned and written in a thread in the background; its inferences are
    done by the engine, aside. It ends early, valid and shorter, when its goal is cancelled, at `cancel`, and when the
    engine stops.

    Args:
        settings: the present ones; of the roots, those of the beginning stay.
        engine: the running one, or None while the node is not active.
        model_name: what the messages call the model.

    Raises:
        InputError: a root is no absolute path.
    """

    def __init__(
        self,
        node: Node,
        settings: Callable[[], Settings],
        engine: Callable[[], Engine | None],
        model_name: str,
    ) -> None:
        self._node, self._settings, self._engine, self._model_name = node, settings, engine, model_name
        self._recordings = AllowedFolders.of_parameter("bag.root", settings().bag.root)
        self._results = AllowedFolders.of_parameter("export.root", settings().export.root)
        self._work = BackgroundWork(node.get_logger().error, "bag", self._results.root)
        self._cancelled = threading.Event()
        group = ReentrantCallbackGroup()  # so that others are answered while a bag is at work
        self._service = node.create_service(ProcessBag, "~/process_bag", self._serve, callback_group=group)
        self._action = ActionServer(
            node,
            ProcessBagAction,
            "~/process_bag_action",
            execute_callback=self._execute,
            goal_callback=self._accept,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=group,
        )

    def cancel(self) -> None:
        """Have the bag that is at work end after its present window."""
        self._cancelled.set()

    def wait(self) -> None:
        """Return when no bag is at work any more; it must have been cancelled, or its engine stopped."""
        self._work.wait()

    def close(self) -> None:
        self.wait()
        self._node.destroy_service(self._service)
        self._action.destroy()

    def _serve(self, request: ProcessBag.Request, response: ProcessBag.Response) -> ProcessBag.Response:
        self._answer(request, response, lambda: False, lambda feedback: None)
        return response

    def _accept(self, _: ProcessBagAction.Goal) -> GoalResponse:
        if self._work.is_running:
            self._node.get_logger().warning(self._work.refusal)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _execute(self, goal: "ServerGoalHandle[Any, Any, Any]") -> ProcessBagAction.Result:
        def tell(feedback: Feedback) -> None:
            with suppress(RuntimeError):  # RCLError: the process is ending, and nobody is there to hear it
                goal.publish_feedback(feedback)

        result = ProcessBagAction.Result()
        self._answer(goal.request, result, lambda: goal.is_cancel_requested, tell)
        with suppress(RuntimeError):  # as above
            if result.success:
                goal.succeed()
            elif goal.is_cancel_requested:
                goal.canceled()
            else:
                goal.abort()
        return result

    def _answer(self, request: Any, answer: Any, is_unwanted: Callable[[], bool], tell: Tell) -> None:
        self._work.run(answer, lambda: self._process(request, answer, is_unwanted, tell))

    def _process(self, request: Any, answer: Any, is_unwanted: Callable[[], bool], tell: Tell) -> None:
        """Fill in `answer`, a response of the service or a result of the action."""
        self._cancelled.clear()
        engine = self._engine()
        if engine is None:
            raise InputError("The node is not active; activate it first.")
        reference_topic = self._node.resolve_topic_name("reference_depth")
        job = checked(request, self._settings(), self._recordings, self._results, reference_topic)
        if job.export_format:
            engine.check_export(job.export_format, job.options.window, job.options.pose_source == "tf")

        def is_cancelled() -> bool:
            return self._cancelled.is_set() or is_unwanted()

        record = SessionRecord(self._settings().export.max_views, "longest_map")
        with BagReader(job.input, self._recordings.open_file) as bag:
            if unknown := set(job.copied) - set(bag.types):
                raise InputError(f"The bag has no topic {min(unknown)!r} to copy; it has {', '.join(bag.types)}.")
            camera = RecordedCamera(bag, job.options)
            progress = _Progress(camera.expected_frames(), tell)
            summary = process_bag(
                camera,
                lambda frames, decoded=None: infer_in_turn(engine, frames, is_cancelled, decoded),
                job.options,
                job.output,
                job.storage,
                model_name=self._model_name,
                advance=progress.advance,
                stop=is_cancelled,
                on_result=record.add if job.export_format else lambda result, session: None,
                open_parent=self._results.opened,
            )
        answer.output_bag, answer.frames, lacking = str(job.output), summary.frames, None
        if job.export_format and not summary.stopped:
            progress.begin("export")
            answer.files, lacking = _exported(job, record)
        answer.message = _report(summary)
        if lacking:
            answer.message += f" {as_sentence(lacking)}"
        answer.success = not (summary.stopped or summary.damage or summary.refused_most or lacking)


def _exported(job: BagJob, record: SessionRecord) -> tuple[list[str], str | None]:
    """The files, and what they lack because images could not be placed."""
    prediction = in_map_axes(record.prediction(), job.options.map_frame, job.options.odom_frame)
    files = job.export_folder.write(lambda staging: export(prediction, staging, job.export_format))
    return [str(file) for file in files], left_out(prediction, job.export_format, record.unplaced)


def infer_in_turn(
    engine: Engine, frames: Sequence[Frame], is_cancelled: Callable[[], bool], decoded: Decoded = None
) -> Prediction:
    """What the model says in its turn. Raises `Stopped` when the bag is to end before that."""
    aside = engine.infer_in_background(frames, decoded)
    while not aside.done():
        if is_cancelled():
            aside.cancel()
        wait([aside], POLL_S)
    try:
        return aside.result()
    except CancelledError:
        raise Stopped from None


class _Progress:
    """Tells how far a bag is, after every window."""

    def __init__(self, total: int, tell: Tell) -> None:
        self._total, self._tell = total, tell
        self._start_s = time.monotonic()
        self._done = 0
        self.begin("infer")

    def begin(self, stage: str) -> None:
        self._stage = stage
        self.advance(0)

    def advance(self, frames: int) -> None:
        self._done += frames
        self._total = max(self._total, self._done)  # it was an estimate
        frames_per_s = self._done / max(time.monotonic() - self._start_s, 1e-9)
        self._tell(
            Feedback(
                stage=self._stage,
                frames_done=self._done,
                frames_total=self._total,
                percent=100 * self._done / self._total,
                frames_per_s=frames_per_s if self._done else math.nan,
                eta_s=(self._total - self._done) / frames_per_s if self._done else math.nan,
            )
        )


def _report(summary: BagSummary) -> str:
    """One sentence on what the new bag holds."""
    done = f"{summary.frames} images in {summary.maps} map{'s' * (summary.maps != 1)}"
    notes = [summary.refusals] if summary.refused else []
    if summary.without_pose:
        notes.append(f"{summary.without_pose} used without a pose")
    rest = "".join(f", {note}" for note in notes)
    if summary.stopped:
        return f"Ended early; the bag holds the {done} until then{rest}."
    if summary.damage:
        return as_sentence(f"{summary.damage}; the bag holds what could be read, {done}{rest}")
    return f"Inferred {done}{rest}."
