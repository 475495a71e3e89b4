# SPDX-License-Identifier: Apache-2.0
"""What the node says about itself, of known counts, states and results, without a graph."""

import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus
from flat_wall import FlatWall
from sensor_msgs.msg import CameraInfo

from da3_core.stream.frame import Frame
from da3_core.stream.session import View, WindowResult
from da3_ros.camera_input import CameraState
from da3_ros.diagnostics import Diagnostics
from da3_ros.engine import Engine
from da3_ros.image_input import InputState
from da3_ros.parameters import settings_from
from da3_ros.publishers import OutputState
from da3_ros.window_buffer import FrameCounts, WindowBuffer

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
NOW_NS = 10_000_000_000


def view(stamp_ns: int, is_new: bool = True, width: int = 64, focal: float = 50.0) -> View:
    image = np.zeros((48, width, 3), np.uint8)
    return View(
        frame=Frame(image, stamp_ns, "camera"),
        number=stamp_ns,
        is_new=is_new,
        image=image,
        depth=np.ones((48, width), np.float32),
        confidence=None,
        sky=None,
        intrinsics=np.array([[focal, 0, width / 2], [0, focal, 24], [0, 0, 1.0]]),
        world_to_camera=np.eye(4),
        processed_from_original=None,
        intrinsics_source="estimated",
    )


RESULT = WindowResult(
    views=(view(NOW_NS - 300_000_000, is_new=False), view(NOW_NS - 200_000_000)),
    placement="points",
    scale_m_per_unit=2.0,
    scale_source="model",
    alignment_residual=0.01,
    segment=3,
    inference_s=0.25,
    scale_deviation=0.012,
)


class Watched:
    """Diagnostics and all that they look at, to be changed at will."""

    def __init__(self, **values: object) -> None:
        settings = settings_from({name.replace("__", "."): value for name, value in values.items()})
        self.model = FlatWall()
        self.engine = Engine(
            self.model,
            WindowBuffer(settings),
            settings,
            on_result=lambda result, session: None,
            on_refused=lambda refusal: None,
            on_failure=lambda error, in_a_row: None,
        )
        self.frames = FrameCounts(used=0, skipped={}, refused={}, waiting=0, filled=0.0)
        self.camera = CameraState("/image", "CameraInfo", None, None)
        self.missing: str | None = None
        self.outputs = OutputState({}, "map -> odom", False)
        self.namesakes = 0
        self.diagnostics = Diagnostics(
            "da3",
            settings,
            lambda: NOW_NS,
            frames=lambda: self.frames,
            images=lambda: InputState([self.camera], missing=self.missing),
            engine=self.engine,
            outputs=lambda: self.outputs,
            namesakes=lambda: self.namesakes,
        )

    def status(self, part: str) -> DiagnosticStatus:
        (found,) = [each for each in self.diagnostics.report() if each.name == f"da3: {part}"]
        return found

    def says(self, part: str) -> tuple[bytes, str]:
        status = self.status(part)
        return status.level, status.message

    def values(self, part: str) -> dict[str, str]:
        return {pair.key: pair.value for pair in self.status(part).values}


def test_a_node_that_has_just_become_active():
    statuses = Watched().diagnostics.report()
    assert [each.name for each in statuses] == ["da3: input", "da3: inference", "da3: output", "da3: map"]
    assert [each.level for each in statuses] == [OK] * 4
    assert [each.message for each in statuses] == [
        "Images on /image.",
        "0 inferences.",
        "0 images published.",
        "No map yet.",
    ]


def test_counts_of_frames_and_their_rate_since_the_report_before():
    earliest = time.monotonic()
    it = Watched()
    latest = time.monotonic()
    it.frames = FrameCounts(
        used=600, skipped={"replaced": 300, "no motion": 50}, refused={"stamp": 40}, waiting=10, filled=0.5
    )
    time.sleep(0.05)
    since = time.monotonic()
    values = it.values("input")
    rate = float(values.pop("rate, Hz"))
    assert 1000 / (time.monotonic() - earliest) - 0.1 <= rate <= 1000 / (since - latest) + 0.1
    assert values == {
        "received": "1000",
        "used": "600",
        "skipped": "350",
        "skipped, replaced": "300",
        "skipped, no motion": "50",
        "refused": "40",
        "refused, stamp": "40",
        "waiting": "10",
        "window filled, %": "50",
    }
    assert it.values("input")["rate, Hz"] == "0.0"


def test_a_pose_that_is_missing():
    it = Watched(pose_source="tf")
    it.missing = "The frame camera is not below odom, but in camera."
    assert it.says("input") == (WARN, f"Unconditioned: {it.missing}")
    assert it.values("input")["used without a pose"] == "0"


def test_silence_of_the_camera():
    it = Watched()
    it.camera = replace(it.camera, silence="No image on /image for 7 s, which nobody publishes.")
    assert it.says("input") == (WARN, "No image on /image for 7 s, which nobody publishes.")


def test_refusals_are_a_warning_until_the_next_report():
    it = Watched()
    it.frames = replace(it.frames, refused={"stamp": 2, "encoding": 1})
    assert it.says("input") == (
        WARN,
        "Images are refused: 2 for stamp, 1 for encoding; the log has the first of each kind.",
    )
    assert it.says("input") == (OK, "Images on /image.")


def test_a_queue_of_every_frame_that_grows():
    it = Watched(every_frame=True, queue__max_frames=100)
    it.frames = replace(it.frames, waiting=50)
    assert it.says("input")[0] == OK
    it.frames = replace(it.frames, waiting=51)
    assert it.says("input") == (WARN, "Falling behind: 51 images wait.")


def test_inferences_that_fail_until_one_succeeds():
    it = Watched()
    it.diagnostics.observe_failure(MemoryError("no memory"))
    it.diagnostics.observe_failure(ValueError("no shape"))
    assert it.says("inference") == (ERROR, "Inference fails: ValueError: no shape")
    assert it.values("inference")["failures"] == "2"
    it.diagnostics.observe(RESULT)
    assert it.says("inference") == (OK, "1 inferences.")


def test_a_stride_that_adapts_is_told():
    it = Watched(window__max_stride=3)
    for used, behind in ((1, ""), (3, "; behind the camera, so 3.0 images in each are new")):
        before = it.frames.used
        it.frames = replace(it.frames, used=before + used, skipped={"replaced": before})
        it.diagnostics.observe(RESULT)
        status = it.status("inference")
        assert status.level == OK
        assert status.message.endswith(f" inferences{behind}.")
        values = {pair.key: pair.value for pair in status.values}
        assert values["images for each inference"] == f"{used + before:.1f}"
        assert values["new images in each inference"] == f"{used:.1f}"


def test_a_pause_and_what_users_of_a_model_must_be_told():
    it = Watched()
    it.model.warning = "Its weights are random."
    assert it.says("inference") == (WARN, "0 inferences; Its weights are random.")
    it.engine.paused = True
    assert it.says("inference") == (OK, "Paused.")


def test_durations_and_ages_are_those_of_what_was_observed():
    it = Watched()
    it.diagnostics.observe(RESULT)
    it.diagnostics.observe(replace(RESULT, inference_s=0.75))
    inference, output = it.values("inference"), it.values("output")
    assert (inference["duration p50, ms"], inference["duration p95, ms"]) == ("500.0", "725.0")
    assert inference["model"] == "auto"
    assert float(inference["memory of the process, MB"]) > 1
    assert (output["age p50, ms"], output["views"]) == ("200.0", "2")


def test_values_are_nan_before_the_first_result():
    it = Watched()
    assert it.values("inference")["duration p50, ms"] == "nan"
    assert it.values("output")["age p95, ms"] == "nan"


def test_another_node_of_that_name_is_told():
    it = Watched()
    assert it.status("output").level == OK
    it.namesakes = 1
    level, message = it.says("output")
    assert level == WARN
    assert "another node has the same name" in message.lower()


def test_messages_that_the_middleware_took_no_more():
    it = Watched()
    it.outputs = replace(it.outputs, failures={"/da3/points": 2, "/tf": 1})
    status = it.status("output")
    assert (status.level, status.message) == (WARN, "3 messages could not be published.")
    assert {pair.key: pair.value for pair in status.values}["not published on /da3/points"] == "2"
    assert it.says("output") == (OK, "0 images published.")


@pytest.mark.parametrize(
    ("result", "scale", "expected"),
    [
        (RESULT, "auto", (OK, "Metric.")),
        (
            replace(RESULT, placement="unposed", views=RESULT.views[:1]),
            "auto",
            (OK, "Single views: no poses, and every depth image has a scale of its own."),
        ),
        (
            replace(RESULT, placement="unposed"),
            "auto",
            (
                WARN,
                "No poses: the last views share too few features, and each depth image has a scale of its own.",
            ),
        ),
        (
            replace(RESULT, placement="last_view"),
            "auto",
            (WARN, "The last window could not be joined to the map; a new one has started."),
        ),
        (
            replace(RESULT, scale_source="none"),
            "model",
            (WARN, "Not metric: this model does not predict metres; set scale.source to fixed or none."),
        ),
        (
            replace(RESULT, scale_source="none"),
            "none",
            (OK, "Not metric: depth and positions are in the model's unit."),
        ),
    ],
)
def test_what_the_map_rests_on(result, scale, expected):
    it = Watched(scale__source=scale)
    it.diagnostics.observe(result)
    assert it.says("map") == expected


def test_a_transform_that_is_missing_goes_before_what_the_map_rests_on():
    it = Watched()
    it.outputs = OutputState({}, "There is no transform from odom to camera.", True)
    assert it.says("map") == (OK, "No map yet.")
    it.diagnostics.observe(RESULT)
    assert it.says("map") == (WARN, "No transform: There is no transform from odom to camera.")


def test_the_values_of_the_map():
    it = Watched()
    it.diagnostics.observe(replace(RESULT, alignment_residual=float("nan")))  # as of the first window
    it.diagnostics.observe(replace(RESULT, scale_m_per_unit=2.2))
    assert it.values("map") == {
        "transform": "map -> odom",
        "intrinsics": "CameraInfo",
        "intrinsics, of the last view": "estimated",
        "scale source": "model",
        "scale, m per unit": "2.2",
        "placement": "points",
        "segment": "3",
        "alignment residual, %": "1.00",
        "alignment residual p95, %": "1.00",
        "flicker of depth p50, %": "nan",
        "loops closed": "0",
        "scale deviation, %": "1.20",
        "scale spread, %": f"{100 * np.log(1.1) / 2:.2f}",
    }
    it.diagnostics.observe(replace(RESULT, scale_source="fixed"))
    assert "scale spread, %" not in it.values("map")


@pytest.mark.parametrize(
    ("source", "info", "expected"),  # the estimate is 50 pixels for a width of 64
    [
        (
            "model",
            CameraInfo(width=640, height=480, k=[400.0, 0, 320, 0, 400, 240, 0, 0, 1]),
            "1.250",
        ),  # 50/64 : 400/640
        ("auto", CameraInfo(width=640, height=480, k=[400.0, 0, 320, 0, 400, 240, 0, 0, 1]), None),
        ("model", CameraInfo(width=640, height=480), None),
        ("model", CameraInfo(k=[400.0, 0, 320, 0, 400, 240, 0, 0, 1]), None),
        ("model", None, None),
    ],
)
def test_the_estimated_focal_length_beside_that_of_the_calibration(source, info, expected):
    it = Watched(intrinsics__source=source)
    it.camera = replace(it.camera, camera_info=info)
    it.diagnostics.observe(RESULT)
    assert it.values("map").get("estimated focal length over that of CameraInfo") == expected


def test_settings_that_change_are_heeded_at_once():
    it = Watched(every_frame=True, queue__max_frames=100)
    it.frames = replace(it.frames, waiting=30)
    assert it.says("input")[0] == OK
    it.diagnostics.apply(settings_from({"every_frame": True, "queue.max_frames": 40}))
    assert it.says("input") == (WARN, "Falling behind: 30 images wait.")
