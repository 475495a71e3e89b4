# SPDX-License-Identifier: Apache-2.0
"""What a session says about recorded images, as the messages of the live node, in the classes of `rosbags`.

The numbers are those of `da3_core.ros_data.conventions`, which the node takes them from too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from da3_core.bag.options import BagOptions, PointOptions
from da3_core.bag.windows import RecordedFrame, RecordedWindow
from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.quaternions import quaternion_from_rotation
from da3_core.ros_data.conventions import (
    camera_matrices,
    camera_pose_in_map,
    depth_in_millimetres,
    pose_covariance,
    pose_sigmas,
    publishable_depth,
    unknown_covariance,
)
from da3_core.ros_data.point_cloud import FIELD_TYPES, fill_cloud
from da3_core.storage.files import package_file
from da3_core.stream.session import View, WindowResult
from da3_core.visualise import colorize_depth

NODE = "/da3"
OF_CAMERA = {
    "depth/image": "sensor_msgs/msg/Image",
    "depth/image_raw": "sensor_msgs/msg/Image",
    "depth/camera_info": "sensor_msgs/msg/CameraInfo",
    "depth/preview": "sensor_msgs/msg/Image",
    "image_rect": "sensor_msgs/msg/Image",
    "confidence/image": "sensor_msgs/msg/Image",
    "sky/image": "sensor_msgs/msg/Image",
    "points": "sensor_msgs/msg/PointCloud2",
    "pose": "geometry_msgs/msg/PoseStamped",
    "odometry": "nav_msgs/msg/Odometry",
    "path": "nav_msgs/msg/Path",
}
WINDOW, TRANSFORMS = f"{NODE}/window", "/tf"
OWN_MESSAGES = ("DepthView", "DepthWindow")


def topic_of(camera: str, name: str) -> str:
    """The topic of an output of a camera; the name of a single camera is empty."""
    return f"{NODE}/{camera}/{name}" if camera else f"{NODE}/{name}"


def outputs(cameras: Iterable[str]) -> dict[str, str]:
    """The type of every topic."""
    of_cameras = {topic_of(camera, name): kind for camera in cameras for name, kind in OF_CAMERA.items()}
    return {**of_cameras, WINDOW: "da3_ros/msg/DepthWindow", TRANSFORMS: "tf2_msgs/msg/TFMessage"}


def typestore() -> Any:
    """The message types of ROS 2 and of this package.

    Raises:
        InputError: this package's definitions are nowhere.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.LATEST)
    for name in OWN_MESSAGES:
        path: Path | None = package_file(f"msg/{name}.msg")
        if path is None:
            raise InputError(f"msg/{name}.msg of this package is missing: install it again")
        store.register(get_types_from_msg(path.read_text(), f"da3_ros/msg/{name}"))
    return store


class MessageMaker:
    """Results to `(topic, image they are about, message)`; it keeps the trajectories of the map.

    Args:
        store: what `typestore` returned.
        model: the model's name as given.
    """

    def __init__(self, store: Any, model: str, options: BagOptions) -> None:
        self._types, self._model, self._options = store.types, model, options
        self._paths: dict[str, deque[Any]] = {}
        self._map = (0, 0)

    def of(self, result: WindowResult, window: RecordedWindow) -> Iterator[tuple[str, RecordedFrame, Any]]:
        """Every topic of every new view, then the paths and the window."""
        if (window.session, result.segment) != self._map:
            self._map = window.session, result.segment
            self._paths.clear()
        views = {view.frame: view for view in result.views}
        for instant in window.instants:
            roots: set[str] = set()  # of cameras in one tree, the first says where that is
            for recorded in instant:
                view = views[recorded.frame]
                if not view.is_new:
                    continue
                if view.world_to_camera is not None and recorded.root is not None and recorded.root not in roots:
                    roots.add(recorded.root)
                    yield TRANSFORMS, recorded, self._transform(recorded, camera_pose_in_map(view.world_to_camera))
                for name, message in self._of_view(view, result, recorded):
                    if message is not None:
                        yield topic_of(recorded.camera, name), recorded, message
        for recorded in window.instants[-1]:
            if path := self._paths.get(recorded.camera):
                header = self._header(recorded.frame.stamp_ns, self._options.map_frame)
                message = self._make("nav_msgs/msg/Path", header=header, poses=list(path))
                yield topic_of(recorded.camera, "path"), recorded, message
        if self._options.window_messages:
            yield WINDOW, window.instants[-1][-1], self._window(result)

    def _of_view(self, view: View, result: WindowResult, recorded: RecordedFrame) -> Iterator[tuple[str, Any]]:
        depth = self._depth(view)
        yield "depth/image", self._image(view, depth, "32FC1")
        yield "depth/image_raw", self._image(view, depth_in_millimetres(depth), "16UC1")
        yield "depth/camera_info", self._camera_info(view)
        yield "depth/preview", self._image(view, colorize_depth(depth), "rgb8")
        yield "image_rect", self._image(view, view.image, "rgb8")
        yield "confidence/image", self._confidence(view)
        if view.sky is not None:
            yield "sky/image", self._image(view, view.sky.astype(np.uint8) * 255, "mono8")
        if self._options.points is not None and view.intrinsics is not None:
            yield "points", self._cloud(view, depth, view.intrinsics, self._options.points)
        if view.world_to_camera is None:
            return
        camera_to_map = camera_pose_in_map(view.world_to_camera)
        header = self._header(view.frame.stamp_ns, self._options.map_frame)
        pose = self._make("geometry_msgs/msg/PoseStamped", header=header, pose=self._pose(camera_to_map))
        self._paths.setdefault(recorded.camera, deque(maxlen=self._options.path_poses)).append(pose)
        yield "pose", pose
        yield "odometry", self._odometry(view, pose, *pose_sigmas(result.alignment_residual, depth))

    def _depth(self, view: View) -> np.ndarray:
        return publishable_depth(view.depth, view.confidence, view.sky, self._options.confidence_floor)

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._types[kind](**fields)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        stamp = self._make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        return self._make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def _header_of(self, view: View) -> Any:
        return self._header(view.frame.stamp_ns, view.frame.camera)

    def _image(self, view: View, pixels: np.ndarray | None, encoding: str) -> Any:
        """An image of the view; an empty one without pixels."""
        pixels = np.zeros((0, 0), np.uint8) if pixels is None else np.ascontiguousarray(pixels)
        return self._make(
            "sensor_msgs/msg/Image",
            header=self._header_of(view),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.nbytes // max(1, pixels.shape[0]),
            data=pixels.reshape(-1).view(np.uint8),
        )

    def _confidence(self, view: View) -> Any:
        return None if view.confidence is None else self._image(view, view.confidence.astype(np.float32), "32FC1")

    def _camera_info(self, view: View) -> Any:
        return None if view.intrinsics is None else self._calibration(view, view.depth.shape, view.intrinsics)

    def _calibration(self, view: View, size_hw: tuple[int, ...], intrinsics: np.ndarray | None) -> Any:
        """That of an undistorted image; all zero for an unknown camera."""
        k, r, p = (
            (np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 4)))
            if intrinsics is None
            else camera_matrices(intrinsics)
        )
        whole = self._make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        return self._make(
            "sensor_msgs/msg/CameraInfo",
            header=self._header_of(view),
            height=size_hw[0],
            width=size_hw[1],
            distortion_model="" if intrinsics is None else "plumb_bob",
            d=np.zeros(0 if intrinsics is None else 5),
            k=k.ravel(),
            r=r.ravel(),
            p=p.ravel(),
            binning_x=0,
            binning_y=0,
            roi=whole,
        )

    def _cloud(self, view: View, depth: np.ndarray, intrinsics: np.ndarray, keep: PointOptions) -> Any:
        clouds = []

        def allocate(shape: tuple[int, ...], names: tuple[str, ...]) -> np.ndarray:
            clouds.append(np.empty(shape, [(name, FIELD_TYPES[name]) for name in names]))
            return clouds[0]

        fill_cloud(allocate, depth, intrinsics, rgb=view.image, confidence=view.confidence, keep=keep)
        [points] = clouds
        offsets = {name: place[1] for name, place in (points.dtype.fields or {}).items()}
        height, width = points.shape if keep.organized else (1, *points.shape)
        kind = self._types["sensor_msgs/msg/PointField"]
        return self._make(
            "sensor_msgs/msg/PointCloud2",
            header=self._header_of(view),
            height=height,
            width=width,
            fields=[kind(name=name, offset=at, datatype=kind.FLOAT32, count=1) for name, at in offsets.items()],
            is_bigendian=False,
            point_step=points.dtype.itemsize,
            row_step=points.dtype.itemsize * width,
            data=points.reshape(-1).view(np.uint8),
            is_dense=not keep.organized,
        )

    def _xyzw(self, kind: str, values: np.ndarray) -> Any:
        return self._make(f"geometry_msgs/msg/{kind}", **dict(zip("xyzw", values.tolist(), strict=False)))

    def _pose(self, child_to_parent: np.ndarray | None) -> Any:
        """All zero, the quaternion too, when it is unknown."""
        position, quaternion = np.zeros(3), np.zeros(4)
        if child_to_parent is not None:
            position, quaternion = child_to_parent[:3, 3], quaternion_from_rotation(child_to_parent[:3, :3])
        return self._make(
            "geometry_msgs/msg/Pose",
            position=self._xyzw("Point", position),
            orientation=self._xyzw("Quaternion", quaternion),
        )

    def _odometry(self, view: View, pose: Any, position_sigma: float, rotation_sigma_rad: float) -> Any:
        zero = self._xyzw("Vector3", np.zeros(3))
        return self._make(
            "nav_msgs/msg/Odometry",
            header=pose.header,
            child_frame_id=view.frame.camera,
            pose=self._make(
                "geometry_msgs/msg/PoseWithCovariance",
                pose=pose.pose,
                covariance=pose_covariance(position_sigma, rotation_sigma_rad),
            ),
            twist=self._make(
                "geometry_msgs/msg/TwistWithCovariance",
                twist=self._make("geometry_msgs/msg/Twist", linear=zero, angular=zero),
                covariance=unknown_covariance(),
            ),
        )

    def _transform(self, recorded: RecordedFrame, camera_to_map: np.ndarray) -> Any:
        """The map to the root of the tree that the camera is in."""
        assert recorded.camera_to_root is not None
        root_to_map = camera_to_map @ invert_rigid(recorded.camera_to_root)
        transform = self._make(
            "geometry_msgs/msg/Transform",
            translation=self._xyzw("Vector3", root_to_map[:3, 3]),
            rotation=self._xyzw("Quaternion", quaternion_from_rotation(root_to_map[:3, :3])),
        )
        stamped = self._make(
            "geometry_msgs/msg/TransformStamped",
            header=self._header(recorded.frame.stamp_ns, self._options.map_frame),
            child_frame_id=recorded.root,
            transform=transform,
        )
        return self._make("tf2_msgs/msg/TFMessage", transforms=[stamped])

    def _window(self, result: WindowResult) -> Any:
        kind = "da3_ros/msg/DepthWindow"
        return self._make(
            kind,
            header=self._header(result.views[-1].frame.stamp_ns, self._options.map_frame),
            model=self._model,
            views=[self._depth_view(view) for view in result.views],
            scale_m_per_unit=result.scale_m_per_unit,
            scale_source=getattr(self._types[kind], f"SCALE_{result.scale_source.upper()}"),
            alignment_residual=result.alignment_residual,
            map_segment=result.segment,
            inference_s=result.inference_s,
        )

    def _depth_view(self, view: View) -> Any:
        world_to_camera, unknown_size = view.world_to_camera, (0, 0)
        size_hw = unknown_size if view.intrinsics is None else view.depth.shape
        return self._make(
            "da3_ros/msg/DepthView",
            header=self._header_of(view),
            camera_info=self._calibration(view, size_hw, view.intrinsics),
            camera_in_map=self._pose(None if world_to_camera is None else camera_pose_in_map(world_to_camera)),
            depth=self._image(view, self._depth(view), "32FC1"),
            confidence=self._confidence(view) or self._image(view, None, ""),
        )
