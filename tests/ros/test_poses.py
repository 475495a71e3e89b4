# SPDX-License-Identifier: Apache-2.0
"""Poses and transforms against numbers worked out by hand: a wrong inversion, axis or edge direction fails here."""

import numpy as np
import pytest

pytest.importorskip("nav_msgs", reason="needs ROS 2 messages")

from geometry_msgs.msg import Transform, TransformStamped

from da3_core.geometry.quaternions import slerp
from da3_core.ros_data import values
from da3_core.ros_data.conventions import UNKNOWN_VARIANCE, camera_pose_in_map, compose, covariance_in_map
from da3_core.ros_data.transform_tree import YIELD_S, JoinedByOther, TransformTree, TransformUnknown
from da3_ros.messages import packed

SECOND = 1_000_000_000
HALF = np.sqrt(0.5)


def world_to_camera(right_in_world, down_in_world, forward_in_world, centre) -> np.ndarray:
    """From the camera's axes and centre, as seen in the world: rows are axes, translation is minus R times centre."""
    matrix = np.eye(4)
    matrix[:3, :3] = [right_in_world, down_in_world, forward_in_world]
    matrix[:3, 3] = -matrix[:3, :3] @ np.array(centre, float)
    return matrix


# In the world (the first camera's optical axes): x right, y down, z ahead.
FIRST = world_to_camera([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0])
AHEAD = world_to_camera([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 2])
# 2 m ahead, 1 m to the right, 0.5 m higher, looking to the left of the first camera.
TURNED_LEFT = world_to_camera([0, 0, 1], [0, 1, 0], [-1, 0, 0], [1, -0.5, 2])


def test_the_first_camera_looks_along_x_of_the_map():
    pose = camera_pose_in_map(FIRST)
    forward, left, up = pose[:3, 2], -pose[:3, 0], -pose[:3, 1]
    assert np.array_equal([forward, left, up], np.eye(3))
    message = packed(values.pose(pose))
    assert (message.position.x, message.position.y, message.position.z) == (0, 0, 0)
    # The optical frame's well-known orientation under a body frame.
    q = message.orientation
    assert np.allclose([q.x, q.y, q.z, q.w], [-0.5, 0.5, -0.5, 0.5])


def test_a_camera_two_metres_ahead():
    pose = camera_pose_in_map(AHEAD)
    assert np.allclose(pose[:3, 3], [2, 0, 0])
    assert np.allclose(pose[:3, :3], camera_pose_in_map(FIRST)[:3, :3])


def test_a_turned_and_moved_camera():
    pose = camera_pose_in_map(TURNED_LEFT)
    assert np.allclose(pose[:3, 3], [2, -1, 0.5])
    assert np.allclose(pose[:3, 2], [0, 1, 0])  # looks to the left of the map
    assert np.allclose(pose[:3, 1], [0, 0, -1])  # its down is down
    # A point 3 m in front of it is 3 m to the left of where it stands.
    assert np.allclose(pose @ [0, 0, 3, 1], [2, 2, 0.5, 1])


def test_many_cameras_at_once():
    in_map = camera_pose_in_map(np.stack([FIRST, AHEAD, TURNED_LEFT]).astype(np.float32))
    assert in_map.dtype == np.float64
    assert np.allclose(in_map[2], camera_pose_in_map(TURNED_LEFT))


def test_messages_carry_stamps_frames_and_numbers():
    pose, header = camera_pose_in_map(TURNED_LEFT), values.header(7 * SECOND + 5, "da3_map")
    [transform] = packed(values.transform(header, "camera", pose)).transforms
    assert (transform.header.frame_id, transform.child_frame_id) == ("da3_map", "camera")
    assert (transform.header.stamp.sec, transform.header.stamp.nanosec) == (7, 5)
    assert np.allclose(matrix_of(transform.transform), pose)
    stamped = packed(values.pose_stamped(header, pose))
    assert stamped.header.frame_id == "da3_map"
    assert stamped.pose == packed(values.pose(pose))
    odometry = packed(values.odometry(header, "camera", pose, covariance_in_map(np.diag([1.0, 2, 3, 4, 5, 6]))))
    assert (odometry.header.frame_id, odometry.child_frame_id) == ("da3_map", "camera")
    # Forward is the z of the map's first camera, left its x, up its y.
    assert np.allclose(odometry.pose.covariance.reshape(6, 6), np.diag([3, 1, 2, 6, 4, 5]))
    assert covariance_in_map(None)[0] == UNKNOWN_VARIANCE, "of a pose that was given"
    assert odometry.twist.covariance[0] == UNKNOWN_VARIANCE
    path = packed(values.path(header, [stamped, stamped]))
    assert (path.header.frame_id, path.poses) == ("da3_map", [stamped, stamped])
    unknown = packed(values.pose(None))
    assert (unknown.position.x, unknown.orientation.w) == (0, 0)


def matrix_of(transform: Transform) -> np.ndarray:
    t, q = transform.translation, transform.rotation
    return compose(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))


def test_slerp_goes_the_short_way():
    level, left = np.array([0, 0, 0, 1.0]), np.array([0, 0, HALF, HALF])  # 90 degrees about z
    third = np.array([0, 0, np.sin(np.pi / 12), np.cos(np.pi / 12)])  # 30 degrees
    assert np.allclose(slerp(level, left, 1 / 3), third)
    assert np.allclose(slerp(level, -left, 1 / 3), third)
    assert np.allclose(slerp(level, level, 0.4), level)


def edge(parent: str, child: str, translation, quaternion=(0, 0, 0, 1), stamp: int = 0) -> TransformStamped:
    child_to_parent = compose(np.array(translation, float), np.array(quaternion, float))
    return packed(values.transform(values.header(stamp, parent), child, child_to_parent)).transforms[0]


@pytest.fixture
def tree() -> TransformTree:
    return TransformTree("da3_map", max_extrapolation_s=0.1)


OPTICAL = (-0.5, 0.5, -0.5, 0.5)


def test_a_camera_without_a_parent_hangs_under_the_map_itself(tree):
    pose = camera_pose_in_map(AHEAD)
    child, child_to_map = tree.map_to_tree("camera", pose, 5 * SECOND)
    assert child == "camera"
    assert np.array_equal(child_to_map, pose)


def test_a_camera_on_a_robot_lets_the_map_join_the_root(tree):
    """Camera 0.3 m before and 0.5 m above base; base drives along odom's x, 1 m/s, and turns left at 90 deg/s."""
    tree.add([edge("base", "camera", [0.3, 0, 0.5], OPTICAL)], static=True)
    tree.add([edge("odom", "base", [0, 0, 0], stamp=10 * SECOND)], static=False)
    tree.add([edge("odom", "base", [1, 0, 0], [0, 0, HALF, HALF], stamp=11 * SECOND)], static=False)
    root, camera_to_odom = tree.frame_to_root("camera", 11 * SECOND)
    assert root == tree.root("camera") == "odom"
    assert np.allclose(camera_to_odom[:3, 3], [1, 0.3, 0.5])
    assert np.allclose(camera_to_odom[:3, 2], [0, 1, 0])

    halfway = tree.frame_to_root("camera", 10 * SECOND + SECOND // 2)[1]
    assert np.allclose(halfway[:3, 3], [0.5 + 0.3 * HALF, 0.3 * HALF, 0.5])

    # The map has the camera at its origin, looking along x: odom lies turned by -90 degrees.
    child, odom_to_map = tree.map_to_tree("camera", camera_pose_in_map(FIRST), 11 * SECOND)
    assert child == "odom"
    assert np.allclose(odom_to_map[:3, :3], [[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    assert np.allclose(odom_to_map[:3, 3], [-0.3, 1, -0.5])
    assert np.allclose(odom_to_map @ camera_to_odom, camera_pose_in_map(FIRST))


def test_stamps_outside_what_is_known_are_held_for_the_bound_and_then_refused(tree):
    tree.add([edge("odom", "camera", [1, 0, 0], stamp=10 * SECOND)], static=False)
    tree.add([edge("odom", "camera", [2, 0, 0], stamp=11 * SECOND)], static=False)
    assert tree.frame_to_root("camera", 11 * SECOND + SECOND // 10)[1][0, 3] == 2
    assert tree.frame_to_root("camera", 10 * SECOND - SECOND // 10)[1][0, 3] == 1
    for stamp in (11 * SECOND + SECOND // 10 + 1, 10 * SECOND - SECOND // 10 - 1):
        with pytest.raises(TransformUnknown, match=f"odom -> camera .* {stamp} ns"):
            tree.frame_to_root("camera", stamp)


def test_transforms_out_of_order_find_their_place(tree):
    for second in (12, 10, 11, 11):
        tree.add([edge("odom", "camera", [second, 0, 0], stamp=second * SECOND)], static=False)
    assert np.isclose(tree.frame_to_root("camera", 11 * SECOND + SECOND // 4)[1][0, 3], 11.25)
    assert np.isclose(tree.frame_to_root("camera", 10 * SECOND + SECOND // 4)[1][0, 3], 10.25)


def test_history_is_bounded_and_starts_anew_when_time_goes_back(tree):
    for second in range(100, 130):
        tree.add([edge("odom", "camera", [second, 0, 0], stamp=second * SECOND)], static=False)
    assert len(tree._edges["camera"].stamps_ns) == len(tree._edges["camera"].poses) == 11
    tree.add([edge("odom", "camera", [3, 0, 0], stamp=3 * SECOND)], static=False)
    assert tree.frame_to_root("camera", 3 * SECOND)[1][0, 3] == 3
    with pytest.raises(TransformUnknown):
        tree.frame_to_root("camera", 129 * SECOND)


def test_our_own_transform_coming_back_is_no_parent(tree):
    pose = compose(np.array([9.0, 0, 0]), np.array([0, 0, 0, 1.0]))
    for child in ("camera", "base"):
        tree.note_own(child, SECOND, pose)
    tree.add([edge("da3_map", "camera", [9, 0, 0], stamp=SECOND)], static=False)
    assert tree.root("camera") == "camera"
    tree.add([edge("base", "camera", [0, 0, 1])], static=True)
    tree.add([edge("/da3_map", "base", [9, 0, 0], stamp=SECOND)], static=False)
    tree.add([edge("da3_map", "base", [5, 0, 0], stamp=SECOND)], static=False, publisher=lambda: None)  # ours, too
    assert tree.map_to_tree("camera", np.eye(4), SECOND)[0] == "base"


def test_it_yields_to_who_else_joins_frames_to_the_map_until_that_ends():
    now_s, asked = 100.0, []
    tree = TransformTree("da3_map", 0.1, now_s=lambda: now_s)
    tree.note_own("camera", SECOND, np.eye(4))
    for stamp in (SECOND, 2 * SECOND):  # the same frame and stamp as ours, another place
        tree.add(
            [edge("da3_map", "camera", [9, 0, 0], stamp=stamp)],
            static=False,
            publisher=lambda: asked.append(1) or "/slam",
        )
    assert asked == [1], "asking is not cheap"
    with pytest.raises(JoinedByOther, match=r"/slam publishes da3_map -> camera .*map_frame"):
        tree.map_to_tree("camera", np.eye(4), 3 * SECOND)
    assert tree.root("camera") == "camera"
    now_s += YIELD_S
    assert tree.map_to_tree("camera", np.eye(4), 3 * SECOND)[0] == "camera"


def test_a_camera_that_somebody_fixed_to_the_map_is_left_alone(tree):
    tree.add([edge("/da3_map", "/camera", [9, 0, 0])], static=True)
    with pytest.raises(TransformUnknown, match=r"tf\.mode"):
        tree.map_to_tree("camera", np.eye(4), SECOND)


def test_circles_and_nonsense_do_not_hang_or_poison(tree):
    bad = edge("base", "camera", [0, 0, 1])
    bad.transform.translation.x = np.nan
    tree.add([bad], static=True)
    bad = edge("base", "camera", [0, 0, 1])
    bad.transform.rotation.w = 0.0
    tree.add([bad], static=True)
    tree.add(
        [edge("", "camera", [0, 0, 1]), edge("base", "", [0, 0, 1]), edge("camera", "camera", [0, 0, 1])], static=True
    )
    assert tree.root("camera") == "camera"
    assert tree.map_to_tree("camera", np.eye(4), SECOND)[0] == "camera"
    tree.add([edge("a", "b", [0, 0, 1]), edge("b", "a", [0, 0, 1])], static=True)
    with pytest.raises(TransformUnknown, match="circle"):
        tree.root("a")


def test_agrees_with_tf_transformations():
    tf_transformations = pytest.importorskip("tf_transformations")
    theirs = tf_transformations.quaternion_matrix([0.1, -0.2, 0.3, 0.9])
    assert np.allclose(compose(np.zeros(3), np.array([0.1, -0.2, 0.3, 0.9])), theirs)


def test_agrees_with_tf2(tree):
    tf2_ros = pytest.importorskip("tf2_ros")
    from rclpy.time import Time

    buffer = tf2_ros.Buffer()
    edges = [
        edge("odom", "base", [0, 0, 0], stamp=10 * SECOND),
        edge("odom", "base", [1, 0.5, 0], [0, 0, HALF, HALF], stamp=11 * SECOND),
    ]
    mount = edge("base", "camera", [0.3, 0, 0.5], OPTICAL)
    tree.add(edges, static=False)
    tree.add([mount], static=True)
    for each in edges:
        buffer.set_transform(each, "test")
    buffer.set_transform_static(mount, "test")
    stamp = 10 * SECOND + 300_000_001
    theirs = buffer.lookup_transform("odom", "camera", Time(nanoseconds=stamp))
    assert np.allclose(tree.frame_to_root("camera", stamp)[1], matrix_of(theirs.transform), atol=1e-9)


def test_beside_odometry_the_odometry_frame_gets_the_map_as_its_parent_and_never_a_second_one():
    tree = TransformTree("map", 0.1)
    tree.add([edge("odom", "camera", [3, 0, 0])], static=False)
    child, odom_to_map = tree.map_to_odom("camera", np.eye(4), 0, "odom")
    assert (child, odom_to_map[0, 3]) == ("odom", -3.0)
    tree.add([edge("earth", "odom", [0, 0, 0])], static=False)
    with pytest.raises(TransformUnknown, match="odom is below earth already"):
        tree.map_to_odom("camera", np.eye(4), 0, "odom")
