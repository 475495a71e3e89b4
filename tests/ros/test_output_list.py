# SPDX-License-Identifier: Apache-2.0
"""The list of outputs: what exists when, and both packers of its values byte by byte."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("rosbags", reason="needs the package rosbags")

from da3_ros.msg import DepthView, DepthWindow
from rclpy.serialization import serialize_message

from da3_core.bag.messages import typestore
from da3_core.bag.options import PointOptions
from da3_core.options import CropOptions, MapPointsOptions, ScanOptions
from da3_core.ros_data import values
from da3_core.ros_data.conventions import OPTICAL_TO_MAP
from da3_core.ros_data.map_points import MapPoints
from da3_core.ros_data.maps import MapState
from da3_core.ros_data.outputs import (
    CAMERA_OUTPUTS,
    INTRINSICS_SOURCES,
    OUTPUTS,
    SCALE_SOURCES,
    VIEW_OUTPUTS,
    WINDOW_OUTPUTS,
    CameraOutputs,
    MapEdge,
    OutputOptions,
    ViewOutputs,
    WindowOutputs,
    to_markdown,
)
from da3_core.ros_data.trajectory import Trajectory
from da3_core.ros_data.values import MessageValue
from da3_core.stream.frame import Frame
from da3_core.stream.session import View, WindowResult
from da3_ros import messages, publishers
from da3_ros.settings import Settings

OPTIONS = OutputOptions(
    "da3_map",
    1.5,
    PointOptions(edge_threshold=0.0),
    windows=True,
    transforms=True,
    compressed=True,
    base_frame="base_link",
    scan=ScanOptions(-100.0, 100.0, max_range_m=100.0),
    map_points=MapPointsOptions(voxel_m=1.0),
)
CAMERA_TO_BASE = OPTICAL_TO_MAP
STORE = typestore()
DOCS = Path(__file__).resolve().parents[2] / "docs"


def view(second: int) -> View:
    """With everything that a view can have."""
    rng = np.random.default_rng(second)
    size = (9, 12)
    world_to_camera = np.eye(4)
    world_to_camera[:3, 3] = 0.1 * second, 0.2, -0.3
    return View(
        frame=Frame(np.zeros((18, 24, 3), np.uint8), second * 10**9 + 1, "camera"),
        number=second,
        is_new=True,
        image=rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        depth=rng.uniform(0.5, 80, size).astype(np.float32),
        confidence=rng.uniform(1, 3, size).astype(np.float32),
        sky=rng.uniform(size=size) < 0.2,
        intrinsics=np.array([[10.0, 0.1, 6.2], [0, 11, 4.4], [0, 0, 1]]),
        world_to_camera=world_to_camera,
        processed_from_original=None,
    )


def bare(second: int) -> View:
    """Of a model that knows depth only."""
    return replace(view(second), confidence=None, sky=None, intrinsics=None, world_to_camera=None)


def result(*views: View) -> WindowResult:
    return WindowResult(views, "points", 0.7, "poses", 0.02, segment=3, inference_s=0.25)


def outputs(each: View, options: OutputOptions = OPTIONS, edge: MapEdge | None = None) -> ViewOutputs:
    return ViewOutputs(each, result(each), options, edge, CAMERA_TO_BASE)


def trajectory(*views: ViewOutputs, pack: Any = lambda pose: pose) -> Trajectory:
    made = Trajectory(OPTIONS.map_frame, 10, pack)
    for each in views:
        made.add(each.view)
    return made


def values_of(every: View, *, pack: Any = lambda pose: pose) -> dict[str, MessageValue | None]:
    """What every topic says about a window of two, of which the newest has this view, by name."""
    views = [
        outputs(view(1)),
        outputs(every, edge=MapEdge("odom", np.diag([-1.0, -1.0, 1.0, 1.0]), every.frame.stamp_ns)),
    ]
    camera = CameraOutputs(views[1], trajectory(*views, pack=pack))
    voxels = MapPoints(MapPointsOptions(voxel_m=1.0)).take_in(views[1:], None)
    window = WindowOutputs(views, "a model", MapState(3, "gap", 7), voxels)
    return {
        **{each.name: each.value(views[1]) for each in VIEW_OUTPUTS},
        **{each.name: each.value(camera) for each in CAMERA_OUTPUTS},
        **{each.name: each.value(window) for each in WINDOW_OUTPUTS},
    }


def recorded_bytes(value: MessageValue) -> bytes:
    return bytes(STORE.serialize_cdr(values.packed(value, STORE.types), value.type))


def live_bytes(value: MessageValue) -> bytes:
    """As ROS writes them, but for the bytes between fields, which it leaves as they are in memory."""
    raw = serialize_message(messages.packed(value))
    return bytes(STORE.serialize_cdr(STORE.deserialize_cdr(raw, value.type), value.type))


@pytest.mark.parametrize("of", [view, bare])
def test_both_packers_write_the_same_bytes(of: Any) -> None:
    ours = values_of(of(2), pack=messages.packed)
    theirs = values_of(of(2), pack=lambda pose: values.packed(pose, STORE.types))
    types = {each.name: each.type for each in OUTPUTS}
    assert ours.keys() == theirs.keys() == types.keys()
    for name, value in ours.items():
        other = theirs[name]
        if value is None or other is None:
            assert value is other, name
            continue
        assert value.type == types[name]
        assert live_bytes(value) == recorded_bytes(other), name


@pytest.mark.parametrize("organized", [False, True])
def test_both_packers_write_the_same_clouds(organized: bool) -> None:
    options = replace(OPTIONS, points=PointOptions(organized=organized, color=False))
    nothing = replace(view(1), depth=np.full((9, 12), np.nan, np.float32), sky=None)
    for each in (view(1), nothing):
        value = outputs(each, options).points()
        assert value is not None
        assert live_bytes(value) == recorded_bytes(value)


def test_what_a_model_does_not_say_is_not_published() -> None:
    said = values_of(bare(2))
    everywhere = {"/tf", "image_rect", "camera_info", "path", "map_info", "window"}
    everywhere |= {f"depth/{name}" for name in ("image", "image_raw", "camera_info", "preview")}
    everywhere |= {f"depth/{name}" for name in ("image/compressed", "image/compressedDepth", "preview/compressed")}
    assert {name for name, value in said.items() if value} == everywhere
    assert {name for name, value in values_of(view(2)).items() if value} == {each.name for each in OUTPUTS}
    assert WindowOutputs([outputs(view(1))], "a model").map_info() is None, "it has been told"
    assert CameraOutputs(outputs(bare(1)), trajectory(outputs(bare(1)))).path() is None
    assert outputs(view(1)).transform() is None, "nobody knows what to join"


def test_a_camera_that_is_unknown_or_assumed_is_not_calibrated() -> None:
    for seen in (bare(5), replace(view(5), intrinsics_source="assumed")):
        info = messages.packed(outputs(seen).camera_info())
        assert (info.height, info.width, info.k.any(), info.p.any(), len(info.d)) == (9, 12, False, False, 0)
    assert outputs(replace(view(5), intrinsics_source="assumed")).points(), "a cloud by a guess is better than none"
    estimated = outputs(replace(view(5), intrinsics_source="estimated"))
    assert messages.packed(estimated.camera_info()).k[0] == 10


def test_a_view_of_an_unknown_camera_is_not_calibrated_within_its_window() -> None:
    window = messages.packed(WindowOutputs([outputs(bare(5))], "a model").window())
    [seen] = window.views
    assert (seen.header.frame_id, seen.header.stamp.sec) == ("camera", 5)
    assert (seen.camera_info.width, seen.camera_info.k.any(), len(seen.camera_info.d)) == (12, False, 0)
    assert (seen.camera_in_map.orientation.w, seen.confidence.height, len(seen.confidence.data)) == (0.0, 0, 0)
    assert (seen.depth.height, seen.depth.width, seen.depth.encoding) == (9, 12, "32FC1")
    assert (window.header.frame_id, window.model, window.scale_m_per_unit) == ("da3_map", "a model", 0.7)
    assert (window.alignment_residual, window.map_segment, window.inference_s) == (0.02, 3, 0.25)


def test_options_choose() -> None:
    def names(options: OutputOptions) -> set[str]:
        return {each.name for each in OUTPUTS if each.chosen(options)}

    every = {each.name for each in OUTPUTS}
    assert names(OPTIONS) == names(publishers.output_options(Settings())) == every
    assert names(replace(OPTIONS, points=None, windows=False, transforms=False)) == every - {"points", "window", "/tf"}
    recorded = names(replace(OPTIONS, compressed=False, scan=None, map_points=None))
    assert recorded == {each.name for each in OUTPUTS if not each.live_only} < every
    assert outputs(view(1), replace(OPTIONS, points=None)).points() is None

    depth = values.packed(outputs(view(1)).depth(), STORE.types).data.view(np.float32).reshape(9, 12)
    distrusted = (view(1).confidence < OPTIONS.confidence_floor) & ~view(1).sky
    np.testing.assert_array_equal(np.isnan(depth), distrusted)
    np.testing.assert_array_equal(np.isposinf(depth), view(1).sky)


def test_topics_have_names_below_the_node_and_the_camera_of_a_rig() -> None:
    assert {each.name: each.topic("/da3", "left") for each in VIEW_OUTPUTS}["depth/image"] == "/da3/left/depth/image"
    assert [each.topic("~") for each in WINDOW_OUTPUTS] == ["~/map_info", "~/map_points", "~/window"]
    assert [each.topic("/da3", "left") for each in VIEW_OUTPUTS if each.name == "/tf"] == ["/tf"]
    assert len({each.name for each in OUTPUTS}) == len(OUTPUTS)


def test_sentences_begin_with_the_encoding_of_images() -> None:
    for each in OUTPUTS:
        if each.type == values.IMAGE:
            value = values_of(view(2))[each.name]
            assert value is not None
            assert each.sentence.startswith(f"{value.fields['encoding']}, "), each.name


def test_scale_sources_are_the_constants_of_the_message() -> None:
    for kind in (DepthWindow, STORE.types["da3_ros/msg/DepthWindow"]):
        assert {name: getattr(kind, f"SCALE_{name.upper()}") for name in SCALE_SOURCES} == SCALE_SOURCES
    for kind in (DepthView, STORE.types["da3_ros/msg/DepthView"]):
        for source, number in INTRINSICS_SOURCES.items():
            assert getattr(kind, f"INTRINSICS_{(source or 'unknown').upper()}") == number
            value = outputs(replace(view(5), intrinsics_source=source)).depth_view()
            assert value.fields["intrinsics_source"] == number


@pytest.mark.parametrize(("page", "node"), [("node.md", "~"), ("bags.md", "/da3")])
def test_the_tables_in_the_reference_are_those_that_the_code_writes(page: str, node: str) -> None:
    _, table = (DOCS / page).read_text().split(f"<!-- written by: python -m da3_core.ros_data.outputs '{node}' -->\n")
    assert table.split("\n<!-- end -->")[0] == to_markdown(node).strip()


def test_points_keep_to_the_limits_in_the_frame_of_the_robot() -> None:
    limits = CropOptions(min_height_m=-1.0, max_height_m=2.0, max_range_m=30.0)
    options = replace(OPTIONS, points=PointOptions(edge_threshold=0.0, confidence_percentile=0.0))
    cropped = replace(options, crop=limits)
    xyz, kept = (
        np.stack([points_of(outputs(view(1), each).points())[name] for name in "xyz"], -1) @ CAMERA_TO_BASE[:3, :3].T
        for each in (options, cropped)
    )
    inside = (xyz[:, 2] >= -1) & (xyz[:, 2] <= 2) & (np.hypot(xyz[:, 0], xyz[:, 1]) <= 30)
    assert 0 < inside.sum() < len(xyz)
    np.testing.assert_allclose(kept, xyz[inside], rtol=1e-6)
    assert replace(outputs(view(1), cropped), camera_to_base=None).points() is None


def points_of(value: MessageValue | None) -> np.ndarray:
    cloud = values.packed(value, STORE.types)
    return cloud.data.view([(field.name, "<f4") for field in cloud.fields])


def test_compressed_depth_is_the_depth_as_the_two_image_transports_read_it() -> None:
    said = values_of(view(2))
    depth_mm = said["depth/image_raw"].fields["data"].view(np.uint16).reshape(9, 12)
    for name, head, form in (
        ("depth/image/compressed", 0, "16UC1; png compressed"),
        ("depth/image/compressedDepth", 12, "16UC1; compressedDepth png"),
    ):
        fields = said[name].fields
        assert fields["format"] == form
        np.testing.assert_array_equal(cv2.imdecode(fields["data"][head:], cv2.IMREAD_UNCHANGED), depth_mm)
    preview = said["depth/preview"].fields["data"].reshape(9, 12, 3)
    decoded = cv2.imdecode(said["depth/preview/compressed"].fields["data"], cv2.IMREAD_COLOR)[..., ::-1]
    assert abs(decoded.mean((0, 1)) - preview.mean((0, 1))).max() < 12


def test_every_image_has_a_camera_info_beside_it_of_its_size() -> None:
    said = values_of(view(2))
    for name in [each.name for each in OUTPUTS if each.type == values.IMAGE]:
        image, info = said[name].fields, said["/".join([*name.split("/")[:-1], "camera_info"])].fields
        assert [image[each] for each in ("height", "width", "header")] == [
            info[each] for each in ("height", "width", "header")
        ]
