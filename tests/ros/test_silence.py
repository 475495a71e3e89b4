# SPDX-License-Identifier: Apache-2.0
"""What is said when no image comes, of publishers that are known."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from da3_ros.camera_input import LOSSES, describe_silence

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def publisher(name: str, qos: QoSProfile) -> TopicEndpointInfo:
    return TopicEndpointInfo(node_name=name, qos_profile=qos)


def test_nobody_publishes():
    said = describe_silence("/image", 6.6, [], BEST_EFFORT, may_lose_images=True)
    assert said == (
        "No image on /image for 7 s, which nobody publishes; start the camera, or remap the topic with -r image:=..."
    )


@pytest.mark.parametrize("publishers", [["driver"], ["other", "driver"]])
def test_a_publisher_whose_qos_does_not_fit_is_named_with_the_remedy(publishers):
    qos = {"driver": BEST_EFFORT, "other": RELIABLE}
    infos = [publisher(name, qos[name]) for name in publishers]
    said = describe_silence("/front/image", 5.0, infos, RELIABLE, may_lose_images=False)
    assert said.startswith("No image on /front/image for 5 s: the QoS of its publisher driver does not fit (")
    assert "reliab" in said.lower().partition(")")[0]
    assert said.endswith("; change it by the parameter qos_overrides./front/image.subscription.reliability.")


@pytest.mark.parametrize(
    ("infos", "may_lose_images", "end"),
    [
        ([publisher("driver", RELIABLE)], False, "though it has 1 publisher of fitting QoS: is the camera running?"),
        ([publisher("driver", RELIABLE)] * 2, True, f"though it has 2 publishers of fitting QoS: {LOSSES}"),
    ],
)
def test_publishers_that_fit_and_are_silent(infos, may_lose_images, end):
    said = describe_silence("/image", 5.0, infos, BEST_EFFORT, may_lose_images)
    assert said == f"No image on /image for 5 s, {end}"
