# SPDX-License-Identifier: Apache-2.0
"""From nothing to pictures: the camera walks, the node watches, the recorder writes, the sheet is drawn."""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from da3_core.export import export
from da3_core.synthetic import room_walk
from da3_ros.demo.children import Children
from da3_ros.demo.comparison import Comparison
from da3_ros.demo.domain import free_domain, graph_environment
from da3_ros.demo.recorder import Recorder, Topic
from da3_ros.demo.recording import BagTopics, Recording
from da3_ros.demo.sheet import Caption, draw_sheet
from da3_ros.msg import DepthWindow

WALK_FRAMES, CAMERA_SIZE, CAMERA_HZ = 48, (240, 320), 4.0
SPARE_FRAMES = 4  # some topics may connect a little later than the image
WINDOW_VIEWS = 4
START_S = 90.0  # loading a network from a cold disk
SECONDS_PER_FRAME = 12.0
PRODUCTS = ("bag", "sheet.png", "scene.glb")
TOPICS = (
    Topic("/camera/image_raw", Image),
    Topic("/camera/camera_info", CameraInfo),
    Topic("/camera/depth", Image),
    Topic("/ground_truth/pose", PoseStamped),
    Topic("/da3/depth/image", Image),
    Topic("/da3/depth/camera_info", CameraInfo),
    Topic("/da3/depth/preview", Image),
    Topic("/da3/image_rect", Image),
    Topic("/da3/confidence/image", Image),
    Topic("/da3/points", PointCloud2),
    Topic("/da3/pose", PoseStamped),
    Topic("/da3/odometry", Odometry),
    Topic("/da3/path", PathMessage),
    Topic("/da3/window", DepthWindow),
    Topic("/tf", TFMessage),
    Topic("/tf_static", TFMessage, latched=True),
)
BAG_TOPICS = BagTopics("/da3/window", "/da3/image_rect", "/camera/depth", "/ground_truth/pose")


@dataclass(frozen=True)
class Options:
    """What to run and where to put it.

    Attributes:
        out: the folder of the products.
        frames: how many frames the node is to process at least.
        node: the arguments of Python that start the node.
    """

    out: Path
    model: str
    frames: int
    process_res: int
    node: tuple[str, ...] = ("-m", "da3_ros.node")


def run(options: Options) -> None:
    """Make the products in a temporary folder, then put them in their place.

    Raises:
        DemoError: a process failed or took too long; nothing has been changed then.
        OSError: the folder cannot be written.
    """
    with workshop(options.out) as folder, free_domain() as domain_id:
        os.environ.update(graph_environment(domain_id))
        with step("rendering the room (kept for the next time)"):
            room_walk(WALK_FRAMES, CAMERA_SIZE)
        record(options, folder)
        with step("reading the bag and comparing it with the truth"):
            recording = Recording.read(folder / "bag", BAG_TOPICS)
            comparison = recording.compare()
        with step("drawing the sheet"):
            draw_sheet(comparison, caption(options.model, recording, comparison)).save(folder / "sheet.png")
        with step("exporting the scene"):
            glb = {"glb": {"export_depth_vis": False}}
            export(recording.prediction(), folder, "glb", export_kwargs=glb)
        put_in_place(folder, options.out)


def record(options: Options, folder: Path) -> None:
    """Run camera, node and recorder until the node has published enough."""
    node = {
        "model": options.model,
        "process_res": options.process_res,
        "window.size": WINDOW_VIEWS,
        "every_frame": "true",  # a slow machine shows the same path, later
        "queue.max_frames": options.frames + SPARE_FRAMES,
        "points.stride": 2,
    }
    height, width = CAMERA_SIZE
    camera = {
        "rate_hz": CAMERA_HZ,
        "frames": WALK_FRAMES,
        "max_frames": options.frames + SPARE_FRAMES,
        "wait_for_subscribers": 2,  # the node and the recorder
        "height": height,
        "width": width,
        "compressed": "false",
    }
    remaps = ("-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info")
    with Children(folder) as children, ros_context() as context, Recorder(folder / "bag", TOPICS, context) as recorder:
        with step(f"starting the node with {options.model}"):
            children.start("the node", [*options.node, "--ros-args", *parameters(node), *remaps])
            children.wait_for(
                "the node was active", lambda: recorder.is_subscribed("/camera/image_raw"), START_S, "Cannot configure"
            )
        with step(f"processing {options.frames} frames"):
            arguments = ["-m", "da3_ros.synthetic_camera", "--ros-args", *parameters(camera)]
            children.start("the camera", arguments, may_finish=True)
            children.wait_for(
                f"{options.frames} frames were processed",
                lambda: recorder.count(BAG_TOPICS.window) > options.frames - WINDOW_VIEWS,
                START_S + SECONDS_PER_FRAME * options.frames,
            )


def parameters(values: dict[str, object]) -> list[str]:
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


def caption(model: str, recording: Recording, comparison: Comparison) -> Caption:
    """The words and numbers of the sheet."""
    frames, height, width = comparison.estimate.depth.shape
    camera_h, camera_w = CAMERA_SIZE
    untrained = model.startswith("untrained:")
    inference_s = statistics.median(window.inference_s for window in recording.windows)
    return Caption(
        title="Depth Anything 3, live on ROS 2",
        subtitle=f"{model}  ·  {frames} frames of {camera_w} x {camera_h}, depth {width} x {height}  ·  "
        f"windows of {WINDOW_VIEWS} views  ·  camera, node and recorder are separate processes over DDS",
        warning="This model is untrained: its weights are fixed random numbers. The run shows that everything is "
        "connected; its depth and path mean nothing."
        if untrained
        else None,
        numbers=(
            ("frames processed", f"{frames}"),
            ("windows inferred", f"{len(recording.windows)}"),
            ("seconds per window", f"{inference_s:.2f}"),
            ("length of the true path", f"{comparison.path_length_m:.2f} m"),
            ("error of the path (RMSE\nafter best similarity)", f"{comparison.trajectory_error_m:.3f} m"),
            ("error of depth (median,\nafter one common scale)", f"{100 * comparison.depth_error:.1f} %"),
        ),
    )


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A folder inside `out`, hence on the same disk, that is gone afterwards."""
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".demo-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def put_in_place(folder: Path, out: Path) -> None:
    """Replace the products of an earlier run; other files in `out` stay."""
    for name in PRODUCTS:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        os.replace(folder / name, out / name)


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
