# SPDX-License-Identifier: Apache-2.0
"""The real network on the synthetic camera, with weights that are random but always the same: is it all connected?"""

import numpy as np
import pytest
from da3_ros.msg import DepthWindow
from harness import Graph, Process
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from da3_ros.demo.run import CAMERA_SIZE, WALK_FRAMES

MODEL = "untrained:da3-small"
PROCESS_RES = 56
START_S = 120.0


@pytest.fixture(scope="module")
def node(graph: Graph) -> Process:
    """Started with a model that does not exist, on the topics of the synthetic camera."""
    parameters = {"model": "/nowhere/da3", "window.size": 3, "process_res": PROCESS_RES}
    remaps = ("-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info")
    return graph.start_node(parameters, *remaps, exact=False)


def change_state(graph: Graph, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return graph.call("/da3/change_state", ChangeState, request, START_S).success


def test_a_model_that_is_not_there_leaves_the_node_to_be_configured_again(graph: Graph, node: Process) -> None:
    graph.wait_for("the refusal", lambda: "/nowhere/da3" in node.log.partition("Cannot configure")[2], START_S)
    assert "Traceback" not in node.log
    assert graph.call("/da3/get_state", GetState).current_state.id == State.PRIMARY_STATE_UNCONFIGURED
    assert not change_state(graph, Transition.TRANSITION_CONFIGURE)
    model = Parameter("model", value=MODEL).to_parameter_msg()
    request = SetParameters.Request(parameters=[model])
    assert graph.call("/da3/set_parameters", SetParameters, request).results[0].successful
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)


def test_the_network_turns_the_camera_into_depth_transforms_and_clouds(graph: Graph, node: Process) -> None:
    height, width = CAMERA_SIZE
    camera = {"rate_hz": 5.0, "frames": WALK_FRAMES, "height": height, "width": width, "compressed": "false"}
    given = [word for name, value in camera.items() for word in ("-p", f"{name}:={value}")]
    graph.start("camera", "-m", "da3_ros.synthetic_camera", "--ros-args", *given)
    topics = {
        "/camera/camera_info": CameraInfo,
        "/da3/depth/image": Image,
        "/da3/depth/camera_info": CameraInfo,
        "/da3/points": PointCloud2,
        "/da3/window": DepthWindow,
        "/tf": TFMessage,
    }
    with graph.listen(topics) as inbox:
        graph.wait_for("five windows", lambda: len(inbox["/da3/window"]) >= 5, START_S)
        graph.wait_for("the rest", lambda: all(inbox.values()))

    window = inbox["/da3/window"][0]
    assert window.model == MODEL
    assert len(window.views) == 3
    assert window.scale_source == DepthWindow.SCALE_NONE
    assert "untrained" in node.log
    given_k = np.reshape(inbox["/camera/camera_info"][0].k, (3, 3))
    for view in window.views:
        assert (view.depth.height, view.depth.width) == (42, PROCESS_RES)
        depth = np.frombuffer(view.depth.data, np.float32)
        confidence = np.frombuffer(view.confidence.data, np.float32)
        assert (depth > 0).all()
        assert depth.std() > 0
        assert (confidence >= 1).all()
        assert view.header.frame_id == "camera_optical_frame"
        k = np.reshape(view.camera_info.k, (3, 3))
        np.testing.assert_allclose(k[:2, :2], given_k[:2, :2] * PROCESS_RES / width, rtol=1e-6)
        np.testing.assert_allclose(k[:2, 2] + 0.5, (given_k[:2, 2] + 0.5) * PROCESS_RES / width, rtol=1e-6)
    assert {(edge.header.frame_id, edge.child_frame_id) for message in inbox["/tf"] for edge in message.transforms} == {
        ("da3_map", "camera_link")
    }
    assert inbox["/da3/points"][0].width > 100
