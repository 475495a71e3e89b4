# SPDX-License-Identifier: Apache-2.0
"""What the node knows about itself, as diagnostic_msgs: counts, rates, ages, scale, transforms, and what is wrong."""

import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from sensor_msgs.msg import CameraInfo

from da3_core.stream.session import View, WindowResult
from da3_ros.engine import Engine
from da3_ros.image_input import InputState
from da3_ros.logs import bounded
from da3_ros.publishers import OutputState
from da3_ros.settings import Settings
from da3_ros.window_buffer import FrameCounts

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
HISTORY = 200  # results that percentiles look back at
UNMEASURED = {
    "depth_topic": "reference_depth says nothing about the last images.",
    "camera_height": "no ground is seen in the last images.",
}

Status = tuple[bytes, str]


@dataclass(frozen=True)
class _Totals:
    """What is compared with the report before."""

    time_s: float
    frames: FrameCounts
    views: int
    unpublished: int
    inferences: int = 0


class Diagnostics:
    """Collects while the node is active and reports when asked, once a second.

    Args:
        name: of the node, the first part of every status' name.
        now_ns: the node's clock.
        frames, images, outputs: what there is to know about them now.
        namesakes: how many other nodes have the full name of this one now.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        now_ns: Callable[[], int],
        *,
        frames: Callable[[], FrameCounts],
        images: Callable[[], InputState],
        engine: Engine,
        outputs: Callable[[], OutputState],
        namesakes: Callable[[], int],
    ) -> None:
        self._name, self._now_ns, self._namesakes = name, now_ns, namesakes
        self._frames, self._images, self._engine, self._outputs = frames, images, engine, outputs
        self.apply(settings)
        self._ages_s: deque[float] = deque(maxlen=HISTORY)
        self._inference_s: deque[float] = deque(maxlen=HISTORY)
        self._residuals: deque[float] = deque(maxlen=HISTORY)
        self._log_scales: deque[float] = deque(maxlen=HISTORY)
        self._flicker: deque[float] = deque(maxlen=HISTORY)
        self._last: WindowResult | None = None
        self._published_views = self._inferences = self._failures = self._loops = 0
        self._failing: str | None = None
        self._previous = self._totals()

    def apply(self, settings: Settings) -> None:
        """Take over settings."""
        self._settings = settings

    def observe(self, result: WindowResult) -> None:
        """Take note of a result that has just been published."""
        newest_ns = max(view.frame.stamp_ns for view in result.views)
        self._ages_s.append((self._now_ns() - newest_ns) * 1e-9)
        self._inference_s.append(result.inference_s)
        self._residuals.append(result.alignment_residual)
        self._log_scales.append(float(np.log(result.scale_m_per_unit)))
        self._flicker.append(result.flicker)
        self._loops += result.bend is not None
        self._published_views += sum(view.is_new for view in result.views)
        self._inferences += 1
        self._last, self._failing = result, None

    def observe_failure(self, error: Exception) -> None:
        """Take note of an inference that raised."""
        self._failures += 1
        self._failing = f"{type(error).__name__}: {error}"

    def _totals(self) -> _Totals:
        failures = sum(self._outputs().failures.values())
        return _Totals(time.monotonic(), self._frames(), self._published_views, failures, self._inferences)

    def report(self) -> list[DiagnosticStatus]:
        """The present state, and rates and troubles since the report before."""
        before, now = self._previous, self._totals()
        self._previous = now
        elapsed_s = max(now.time_s - before.time_s, 1e-3)
        input_hz = (now.frames.received - before.frames.received) / elapsed_s
        output_hz = (now.views - before.views) / elapsed_s
        images, outputs = self._images(), self._outputs()
        refused = sum((Counter(each.refused) for each in images.cameras), Counter())
        refused_infos = {f"CameraInfo refused, {reason}": count for reason, count in refused.items()}
        without_pose = {"used without a pose": images.without_pose} if self._settings.has_poses else {}
        received = {**_describe(now.frames), **refused_infos, **without_pose, "rate, Hz": _hz(input_hz)}
        published = {**self._describe_output(outputs), "rate, Hz": _hz(output_hz)}
        return [
            self._status("input", self._judge_input(now, before, images), received),
            self._status("inference", self._judge_inference(now, before), self._describe_inference(now, before)),
            self._status("output", self._judge_output(now, before), published),
            self._status("map", self._judge_map(outputs), self._describe_map(images, outputs)),
        ]

    def _status(self, part: str, judged: Status, values: dict[str, Any]) -> DiagnosticStatus:
        level, message = judged
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        return DiagnosticStatus(
            level=level,
            name=f"{self._name}: {part}",
            message=bounded(message),
            hardware_id=_topics(self._images()),
            values=pairs,
        )

    def _judge_input(self, now: _Totals, before: _Totals, images: InputState) -> Status:
        for camera in images.cameras:
            if camera.silence:
                return WARN, camera.silence
        for camera in images.cameras:
            if camera.trouble:
                return WARN, f"The model's estimate of the camera is used: {camera.trouble}"
        if images.missing:
            return WARN, f"Unconditioned: {images.missing}"
        if self._settings.every_frame and now.frames.waiting > self._settings.queue.max_frames / 2:
            return WARN, f"Falling behind: {now.frames.waiting} images wait."
        if refused := Counter(now.frames.refused) - Counter(before.frames.refused):
            reasons = ", ".join(f"{count} for {reason}" for reason, count in refused.items())
            return WARN, f"Images are refused: {reasons}; the log has the first of each kind."
        return OK, f"Images on {_topics(images)}."

    def _judge_inference(self, now: _Totals, before: _Totals) -> Status:
        if self._failing:
            pause = f"; the next try is in {wait_s:.0f} s" if (wait_s := self._engine.next_try_s) else ""
            return ERROR, f"Inference fails: {self._failing}{pause}"
        if self._engine.paused:
            return OK, "Paused."
        if self._engine.warning:
            return WARN, f"{self._inferences} inferences; {self._engine.warning}"
        _, used = _stride(now, before)
        if self._settings.window.max_stride and used > self._settings.window.stride:
            return OK, f"{self._inferences} inferences; behind the camera, so {used:.1f} images in each are new."
        return OK, f"{self._inferences} inferences."

    def _describe_inference(self, now: _Totals, before: _Totals) -> dict[str, Any]:
        received, used = _stride(now, before)
        p50, p95 = _percentiles(self._inference_s)
        return {
            **self._engine.facts(),
            "inferences": self._inferences,
            "failures": self._failures,
            "images for each inference": f"{received:.1f}",
            "new images in each inference": f"{used:.1f}",
            "next try after failures in, s": f"{self._engine.next_try_s:.1f}",
            "duration p50, ms": _ms(p50),
            "duration p95, ms": _ms(p95),
            "memory of the process, MB": f"{_resident_bytes() / 1e6:.0f}",
        }

    def _describe_output(self, outputs: OutputState) -> dict[str, Any]:
        p50, p95 = _percentiles(self._ages_s)
        failures = {f"not published on {topic}": count for topic, count in outputs.failures.items()}
        return {"views": self._published_views, "age p50, ms": _ms(p50), "age p95, ms": _ms(p95), **failures}

    def _judge_output(self, now: _Totals, before: _Totals) -> Status:
        if self._namesakes():
            return WARN, (
                "Another node has the same name, so the results of both are mixed on the same topics; give one of them "
                "a namespace."
            )
        if now.unpublished > before.unpublished:
            return WARN, f"{now.unpublished - before.unpublished} messages could not be published."
        return OK, f"{now.views} images published."

    def _judge_map(self, outputs: OutputState) -> Status:
        if self._last is None:
            return OK, "No map yet."
        if outputs.transform_is_missing:
            return WARN, f"No transform: {outputs.transform}"
        if outputs.baseless:
            return WARN, f"No scan and no limits of crop: {outputs.baseless}"
        if self._last.scale_source == "none" and outputs.measured:
            return WARN, (
                f"Not metric, though {', '.join(outputs.measured)} is subscribed to, whose unit is the metre for ROS; "
                "set scale.source to fixed, or use a metric model."
            )
        if self._last.placement == "unposed" and len(self._last.views) == 1:
            return OK, "Single views: no poses, and every depth image has a scale of its own."
        if self._last.placement == "unposed":
            return WARN, "No poses: the last views share too few features, and each depth image has a scale of its own."
        if self._last.placement == "last_view":
            return WARN, "The last window could not be joined to the map; a new one has started."
        if self._last.scale_source == "none" and self._settings.scale.source == "model":
            return WARN, "Not metric: this model does not predict metres; set scale.source to fixed or none."
        if self._last.scale_source == "none" and self._settings.scale.source in UNMEASURED:
            return WARN, f"Not metric: {UNMEASURED[self._settings.scale.source]}"
        if self._last.scale_source == "none":
            return OK, "Not metric: depth and positions are in the model's unit."
        return OK, "Metric."

    def _describe_map(self, images: InputState, outputs: OutputState) -> dict[str, Any]:
        calibrations = dict.fromkeys(camera.calibration for camera in images.cameras)
        values: dict[str, Any] = {"transform": outputs.transform, "intrinsics": "; ".join(calibrations)}
        if self._last is None:
            return values
        values |= {
            "intrinsics, of the last view": self._last.views[-1].intrinsics_source or "unknown",
            "scale source": self._last.scale_source,
            "scale, m per unit": f"{self._last.scale_m_per_unit:.6g}",
            "placement": self._last.placement,
            "segment": self._last.segment,
            **({"segment began because of": outputs.map.reason} if outputs.map else {}),
            "alignment residual, %": f"{100 * self._last.alignment_residual:.2f}",
            "alignment residual p95, %": f"{100 * _percentiles(self._residuals)[1]:.2f}",
            "flicker of depth p50, %": f"{100 * _percentiles(self._flicker)[0]:.2f}",
            "loops closed": self._loops,
        }
        if np.isfinite(self._last.scale_deviation):
            values["scale deviation, %"] = f"{100 * self._last.scale_deviation:.2f}"
        if self._last.scale_source in ("model", "depth", "height"):  # else every inference has a unit of its own
            values["scale spread, %"] = f"{100 * float(np.std(list(self._log_scales))):.2f}"
        if (agreement := self._focal_agreement(images.cameras[-1].camera_info, self._last.views[-1])) is not None:
            values["estimated focal length over that of CameraInfo"] = f"{agreement:.3f}"
        return values

    def _focal_agreement(self, given: CameraInfo | None, view: View) -> float | None:
        """Both as a share of the image's width, since the processed image has another size."""
        estimated = view.intrinsics
        if self._settings.intrinsics.source != "model" or given is None or estimated is None:
            return None
        if not given.k[0] > 0 or given.width == 0:
            return None
        return float(estimated[0, 0] / view.depth.shape[1] / (given.k[0] / given.width))


def _topics(images: InputState) -> str:
    return ", ".join(camera.topic for camera in images.cameras)


def _stride(now: _Totals, before: _Totals) -> tuple[float, float]:
    """How many images came for each inference, and how many of these it took; NaN without any."""
    inferences = now.inferences - before.inferences
    if not inferences:
        return np.nan, np.nan
    received, used = now.frames.received - before.frames.received, now.frames.used - before.frames.used
    return received / inferences, used / inferences


def _describe(counts: FrameCounts) -> dict[str, Any]:
    return {
        "received": counts.received,
        "used": counts.used,
        "skipped": sum(counts.skipped.values()),
        **{f"skipped, {reason}": count for reason, count in counts.skipped.items()},
        "refused": sum(counts.refused.values()),
        **{f"refused, {reason}": count for reason, count in counts.refused.items()},
        "waiting": counts.waiting,
        "window filled, %": f"{100 * counts.filled:.0f}",
    }


def _percentiles(values: deque[float]) -> tuple[float, float]:
    """Of the values that are numbers; NaN without any."""
    known = np.array(list(values))  # a copy at once: the engine appends meanwhile
    known = known[np.isfinite(known)]
    return (np.nan, np.nan) if known.size == 0 else tuple(np.percentile(known, (50, 95)))


def _hz(rate: float) -> str:
    return f"{rate:.1f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"


def _resident_bytes() -> int:
    """Resident memory of this process, 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0
