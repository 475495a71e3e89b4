# SPDX-License-Identifier: Apache-2.0
"""From nothing to a sheet: a camera walks or shows a folder, the node watches, the recorder writes, we draw."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from da3_core.export import export
from da3_core.ros_data.outputs import OUTPUTS
from da3_core.ros_data.values import CAMERA_INFO, IMAGE, POSE_STAMPED, TRANSFORMS
from da3_core.storage.opened_folder import opened
from da3_core.storage.staging import own_folder
from da3_core.synthetic import room_walk
from da3_ros.demo.children import Children
from da3_ros.demo.comparison import Comparison, Findings
from da3_ros.demo.domain import free_domain, graph_environment
from da3_ros.demo.image_folder import load_pictures
from da3_ros.demo.recorder import Recorder, Topic
from da3_ros.demo.recording import BagTopics, Recording
from da3_ros.demo.sheet import Caption, draw_sheet

WALK_FRAMES, CAMERA_SIZE, CAMERA_HZ = 48, (240, 320), 4.0
LONGER_SIDE = 640  # of images as the camera publishes them
SPARE_FRAMES = 4  # some topics may connect a little later than the image
WINDOW_VIEWS = 4
MAX_GAP_S = 60.0  # a machine that stalls is no reason for a new map
START_S = 90.0  # loading a network from a cold disk
SECONDS_PER_FRAME = 12.0
PRODUCTS = ("bag", "sheet.png", "scene.glb")
# Depth once more, what few models have, what needs a robot, and what comes in its own time.
NOT_RECORDED = (
    *("depth/image_raw", "depth/image/compressed", "depth/image/compressedDepth", "depth/preview/compressed"),
    *("sky/image", "sky/camera_info", "scan", "map_points"),
)
IMAGE_TOPICS = (
    Topic("/camera/image_raw", IMAGE),
    *(Topic(each.topic("/da3"), each.type) for each in OUTPUTS if each.name not in NOT_RECORDED),
)
TOPICS = (
    *IMAGE_TOPICS,
    Topic("/camera/camera_info", CAMERA_INFO),
    Topic("/camera/depth", IMAGE),
    Topic("/ground_truth/pose", POSE_STAMPED),
    Topic("/tf_static", TRANSFORMS, latched=True),
)
WARNINGS = {
    "untrained:": "This model is untrained: its weights are fixed random numbers. The run shows that everything is "
    "connected; its depth and path mean nothing.",
    "embedded": "The model that needs no download: soft depth without a unit, camera poses from matching features. "
    "A demonstration; DA3-BASE sees far more.",
}
BAG_TOPICS = BagTopics("/da3/window", "/da3/image_rect", "/camera/depth", "/ground_truth/pose")


@dataclass(frozen=True)
class Options:
    """What to run and where to put it.

    Attributes:
        out: the folder of the products.
        model, process_res: parameters of the node.
        frames: how many frames the node is to process at least; of images, at most.
        images: a folder whose images the camera shows, instead of the synthetic room.
        node: the arguments of Python that start the node.
    """

    out: Path
    model: str
    frames: int
    process_res: int = 0
    pictures: Path | None = None
    node: tuple[str, ...] = ("-m", "da3_ros.node")


def run(options: Options) -> list[str]:
    """Make the products in a temporary folder, then put them in their place.

    Returns:
        The names of the products. Of images of which none could be placed there is no GLB.

    Raises:
        DemoError: a process failed or took too long; nothing has been changed then.
        InputError: the images cannot be read; likewise.
        OSError: the folder cannot be written.
    """
    with workshop(options.out) as folder, free_domain() as domain_id:
        os.environ.update(graph_environment(domain_id))
        if options.pictures:
            with step("reading the images"):
                options = replace(options, frames=len(load_pictures(options.pictures, LONGER_SIDE, options.frames)))
        else:
            with step("rendering the room (kept for the next time)"):
                room_walk(WALK_FRAMES, CAMERA_SIZE)
        record(options, folder)
        with step("reading the bag" if options.pictures else "reading the bag and comparing it with the truth"):
            recording = Recording.read(folder / "bag", BAG_TOPICS)
            findings = recording.findings()
        with step("drawing the sheet"):
            draw_sheet(findings, caption(options, recording, findings)).save(folder / "sheet.png")
        if scene := recording.prediction():
            with step("exporting the scene"):
                export(scene, folder, "glb", export_kwargs={"glb": {"export_depth_vis": False}})
        return put_in_place(folder, options.out)


def record(options: Options, folder: Path) -> None:
    """Run camera, node and recorder until the node has published enough."""
    window_views = min(WINDOW_VIEWS, options.frames)
    node = {
        "model": options.model,
        "process_res": options.process_res,
        "window.size": window_views,
        "window.max_gap_s": MAX_GAP_S,
        "every_frame": "true",  # a slow machine shows the same path, later
        "queue.max_frames": options.frames + SPARE_FRAMES,
        "points.stride": 2,
    }
    remaps = ("-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info")
    topics = IMAGE_TOPICS if options.pictures else TOPICS
    with Children(folder) as children, ros_context() as context, Recorder(folder / "bag", topics, context) as recorder:
        with step(f"starting the node with {options.model}"):
            children.start("the node", [*options.node, "--ros-args", *parameters(node), *remaps])
            children.wait_for(
                "the node was active", lambda: recorder.is_subscribed("/camera/image_raw"), START_S, "Cannot configure"
            )
        with step(f"processing {options.frames} frames"):
            children.start("the camera", camera(options), may_finish=True)
            children.wait_for(
                f"{options.frames} frames were processed",
                lambda: recorder.count(BAG_TOPICS.window) > options.frames - window_views,
                START_S + SECONDS_PER_FRAME * options.frames,
            )


def camera(options: Options) -> list[str]:
    """The arguments of Python that start it."""
    common = {"rate_hz": CAMERA_HZ, "wait_for_subscribers": 2}  # the node and the recorder
    if options.pictures:
        own = {"folder": options.pictures.resolve(), "longer_side": LONGER_SIDE, "max_frames": options.frames}
        return ["-m", "da3_ros.demo.image_folder", "--ros-args", *parameters(common | own)]
    height, width = CAMERA_SIZE
    room = {"frames": WALK_FRAMES, "max_frames": options.frames + SPARE_FRAMES, "height": height, "width": width}
    return ["-m", "da3_ros.synthetic_camera", "--ros-args", *parameters(common | room | {"compressed": "false"})]


def parameters(values: dict[str, object]) -> list[str]:
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


def caption(options: Options, recording: Recording, findings: Findings) -> Caption:
    """The words and numbers of the sheet."""
    frames, height, width = findings.estimate.depth.shape
    camera_h, camera_w = CAMERA_SIZE
    what, where = ("frame", f"{camera_w} x {camera_h}")
    if options.pictures:
        what, where = "picture", options.pictures.resolve().name
    model, views = recording.windows[0].model, len(recording.windows[0].views)
    inference_s = statistics.median(window.inference_s for window in recording.windows)
    numbers = [
        (f"{what}s processed", f"{frames}"),
        ("windows inferred", f"{len(recording.windows)}"),
        ("seconds per window", f"{inference_s:.2f}"),
    ]
    if isinstance(findings, Comparison):
        numbers += [
            ("length of the true path", f"{findings.path_length_m:.2f} m"),
            ("error of the path (RMSE\nafter best similarity)", _metres(findings.trajectory_error_m)),
            ("error of the cloud\n(median, as drawn)", _metres(findings.cloud_error_m)),
            ("error of depth (median,\nafter one common scale)", f"{100 * findings.depth_error:.1f} %"),
        ]
    else:
        residuals = [w.alignment_residual for w in recording.windows if np.isfinite(w.alignment_residual)]
        agreement = f"{100 * statistics.median(residuals):.1f} %" if residuals else "none"
        numbers += [
            ("placed in one map", f"{findings.estimate.placed.sum()}"),
            ("difference between windows\n(median, of depth)", agreement),
        ]
    return Caption(
        title="Depth Anything 3, live on ROS 2",
        subtitle=f"{model}  ·  {_number(frames, what)} of {where}, depth {width} x {height}  ·  "
        f"windows of {_number(views, 'view')}  ·  "
        "camera, node and recorder are separate processes over DDS",
        warning=next((text for name, text in WARNINGS.items() if name in model), None),
        numbers=numbers,
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _metres(error: float) -> str:
    return "no poses" if np.isnan(error) else f"{error:.3f} m"


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A folder inside `out`, hence on the same disk, that is gone afterwards."""
    with opened(out, make=True) as parent, own_folder(parent) as folder:
        yield out / folder.name  # a name that other processes know too


def put_in_place(folder: Path, out: Path) -> list[str]:
    """Replace the products of an earlier run, and say which there are; other files in `out` stay."""
    made = [name for name in PRODUCTS if (folder / name).exists()]
    with opened(out) as target:
        for name in PRODUCTS:
            target.remove(name)
        for name in made:
            os.rename(folder / name, name, dst_dir_fd=target.fd)
    return made


@contextmanager
def ros_context() -> Iterator[Context]:
    """rclpy without its signal handlers: Ctrl-C is a KeyboardInterrupt here."""
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield context
    finally:
        context.try_shutdown()


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what is done, then how long it took."""
    print(f"  {name} ... ", end="", flush=True)
    began = time.monotonic()
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f"{time.monotonic() - began:.1f} s", flush=True)
