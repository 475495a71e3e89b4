# SPDX-License-Identifier: Apache-2.0
"""What requests to process a bag mean, and which are refused before anything is opened."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from da3_ros.action import ProcessBag as ProcessBagAction
from da3_ros.srv import ProcessBag

from da3_core.bag.options import BagOptions
from da3_core.errors import InputError
from da3_core.options import PointOptions
from da3_core.storage.allowed_folders import AllowedFolders
from da3_ros.bag_request import BagJob, checked
from da3_ros.parameters import settings_from


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bags/trip").mkdir(parents=True)
    (tmp_path / "results/taken").mkdir(parents=True)
    return tmp_path


def job(folder: Path, parameters: dict[str, Any] | None = None, **fields: Any) -> BagJob:
    recordings = AllowedFolders.of_parameter("bag.root", str(folder / "bags"))
    results = AllowedFolders.of_parameter("export.root", str(folder / "results"))
    request = ProcessBag.Request(**{"input_bag": "trip", **fields})
    return checked(request, settings_from(parameters or {}), recordings, results, "/lidar/points")


def test_the_service_and_the_action_have_the_same_fields():
    assert ProcessBag.Request.get_fields_and_field_types() == ProcessBagAction.Goal.get_fields_and_field_types()
    assert ProcessBag.Response.get_fields_and_field_types() == ProcessBagAction.Result.get_fields_and_field_types()
    for name in ProcessBag.Request.get_fields_and_field_types():
        assert getattr(ProcessBag.Request(), name) == getattr(ProcessBagAction.Goal(), name)


def test_without_more_it_is_what_the_command_does(folder: Path):
    plain = job(folder)
    assert (plain.input, plain.output) == (folder / "bags/trip", folder / "results/trip_da3")
    assert (plain.storage, plain.export_format, plain.copied) == ("mcap", "", ())
    assert plain.options == BagOptions()


def test_the_parameters_of_the_node_count(folder: Path):
    parameters = {
        "window.size": 6,
        "window.stride": 3,
        "window.max_gap_s": 7.0,
        "intrinsics.source": "model",
        "scale.source": "fixed",
        "scale.fixed_m_per_unit": 2.5,
        "depth.confidence_floor": 1.5,
        "map_frame": "map",
        "path.max_poses": 9,
        "points.stride": 4,
        "points.max_depth_m": 8.0,
        "points.color": False,
        "tf.max_extrapolation_s": 0.3,
    }
    options = job(folder, parameters, points=True).options
    assert options == BagOptions(
        window=6,
        stride=3,
        max_gap_s=7.0,
        intrinsics="model",
        metres_per_unit=2.5,
        confidence_floor=1.5,
        map_frame="map",
        path_poses=9,
        max_extrapolation_s=0.3,
        points=PointOptions(stride=4, max_depth_m=8.0, color=False),
    )


def test_what_is_asked_for_goes_before(folder: Path):
    asked = job(
        folder,
        output_bag="a/b",
        storage="sqlite3",
        image_topics=["/left", "/right"],
        camera_info_topics=["/left/info", "/right/info"],
        pose_source="tf",
        odom_frame="world",
        start_s=1.5,
        duration_s=20.0,
        every=3,
        fps=2.5,
        window=2,
        stride=1,
        window_messages=False,
        copy_topics=["/tf", "/a.b"],
        export_format="glb-tum",
        export_directory="c",
    )
    assert asked.output == folder / "results/a/b"
    assert (asked.storage, asked.export_format) == ("sqlite3", "glb-tum")
    assert asked.export_folder.path == folder / "results/c"
    assert asked.copied == ("/tf", "/a.b")
    assert asked.options == BagOptions(
        image_topics=("/left", "/right"),
        camera_info_topics=("/left/info", "/right/info"),
        pose_source="tf",
        odom_frame="world",
        start_s=1.5,
        duration_s=20.0,
        every=3,
        fps=2.5,
        window=2,
        stride=1,
        window_messages=False,
        copy_topics=r"\A(?:/tf|/a\.b)\Z",
    )


def test_the_sensors_of_the_node_are_those_of_the_bag(folder: Path):
    """Which of the bag's topics they are on is asked, or found."""
    sensors = {"scale.source": "depth_topic", "scale.reference_slop_s": 0.3, "map.up": "imu"}
    given = {"scale": "depth_topic", "reference_slop_s": 0.3, "map_up": "imu"}
    assert job(folder, sensors).options == BagOptions(**given, reference_topic="/lidar/points")
    asked = job(folder, sensors, reference_topic="/sparse", imu_topic="/imu").options
    assert asked == BagOptions(**given, reference_topic="/sparse", imu_topic="/imu")
    with pytest.raises(InputError, match="reference_topic and scale depth_topic go together"):
        job(folder, reference_topic="/lidar/points")
    with pytest.raises(InputError, match="imu_topic came with map_up camera"):
        job(folder, imu_topic="/imu")


def test_all_topics_are_copied_by_one_word(folder: Path):
    everything = job(folder, copy_topics=["all"])
    assert (everything.options.copy_topics, everything.copied) == ("all", ())


def test_a_rig_has_as_many_views_as_the_window_of_the_stream(folder: Path):
    def windows(size: int, cameras: int, **fields: Any) -> tuple[int, int]:
        topics = [f"/camera_{number}" for number in range(cameras)]
        options = job(
            folder, {"window.size": size, "window.stride": min(3, max(1, size - 1))}, image_topics=topics, **fields
        ).options
        return options.window, options.stride

    assert windows(4, 2) == (2, 1)
    assert windows(4, 3) == (1, 1)
    assert windows(12, 2) == (6, 3)
    assert windows(12, 2, window=3) == (3, 2)
    for too_large in ({"size": 4, "cameras": 5}, {"size": 4, "cameras": 2, "window": 3}):
        with pytest.raises(InputError, match=r"larger than the parameter window\.size"):
            windows(**too_large)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("input_bag is empty", {"input_bag": ""}),
    ("there is no 'nothing' in", {"input_bag": "nothing"}),
    (r"parameter bag\.root", {"input_bag": "../results/taken"}),
    (r"parameter bag\.root", {"input_bag": "/etc"}),
    (r"parameter export\.root", {"output_bag": "../up"}),
    (r"parameter export\.root", {"export_directory": "/tmp"}),
    ("exists", {"output_bag": "taken"}),
    ("exists", {"output_bag": "."}),
    ("unknown export format 'gbl'", {"export_format": "gbl"}),
    ("computes no gaussians", {"export_format": "gs_ply"}),
    ("storage is 'rosbag'; give one of mcap, sqlite3", {"storage": "rosbag"}),
    ("pose_source is 'gps'; give one of auto", {"pose_source": "gps"}),
    ("start_s is nan", {"start_s": float("nan")}),
    ("start_s is -1", {"start_s": -1.0}),
    ("duration_s is inf", {"duration_s": float("inf")}),
    ("fps is 1e\\+300", {"fps": 1e300}),
    ("every is 0", {"every": 0}),
    ("window of 5 is larger", {"window": 5}),
    ("stride is 4 and the window 4", {"stride": 4}),
    ("stride is 1000 and the window 1", {"window": 1, "stride": 1000}),
]


@pytest.mark.parametrize(("reason", "fields"), REFUSED)
def test_what_cannot_be_done_is_refused(folder: Path, reason: str, fields: dict[str, Any]):
    with pytest.raises(InputError, match=reason):
        job(folder, **fields)


def test_poses_that_give_metres_contradict_another_scale(folder: Path):
    with pytest.raises(InputError, match=r"set scale\.source to auto"):
        job(folder, {"scale.source": "fixed"}, pose_source="tf")


def test_nothing_is_written_into_a_recording(folder: Path):
    """Also where both roots are one folder."""
    same = AllowedFolders.of_parameter("root", str(folder / "bags"))
    for fields in ({"output_bag": "trip/da3"}, {"export_directory": "trip"}):
        with pytest.raises(InputError, match="is in the bag"):
            checked(ProcessBag.Request(input_bag="trip", **fields), settings_from({}), same, same, "")
