# SPDX-License-Identifier: Apache-2.0
"""Depth at the camera's size without what a mask leaves out, over DDS."""

from pathlib import Path

import cv2
import numpy as np
from footage import Footage
from harness import Graph, unpack
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from da3_core.synthetic import Walk


def test_depth_has_the_size_of_the_camera_and_nothing_where_masks_are(
    graph: Graph, footage: Footage, walk: Walk, tmp_path: Path
) -> None:
    height, width = walk.depth_m.shape[1:]
    body, moving = np.zeros((2, height, width), bool)
    body[-height // 4 :], moving[:, : width // 4] = True, True
    cv2.imwrite(str(tmp_path / "body.png"), body.astype(np.uint8) * 255)
    graph.start_node(
        {
            "every_frame": "true",
            "window.size": 2,
            "process_res": width // 2,
            "depth.size": "camera",
            "mask.robot_body": tmp_path / "body.png",
            "points.confidence_percentile": 0.0,
        }
    )
    camera = graph.camera()
    topics = {"/da3/depth/image": Image, "/da3/depth/camera_info": CameraInfo, "/da3/points": PointCloud2}
    with graph.listen(topics) as inbox:
        images = footage.images(range(3))
        mask = Image(header=images[0].header, height=height, width=width, encoding="mono8", step=width)
        mask.data.frombytes((moving.astype(np.uint8) * 255).tobytes())
        camera.publish("/mask", mask)
        for count, image in enumerate(images, 1):
            if count == 3:  # topics may overtake each other: by now the mask is there
                graph.wait_for("two views", lambda: len(inbox["/da3/points"]) == 2)
            camera.publish("/camera_info", footage.camera_info(image))
            camera.publish("/image", image)
        graph.wait_for("all views", lambda: all(len(inbox[topic]) == 3 for topic in topics))
    newest, info, cloud = (inbox[topic][-1] for topic in topics)
    assert newest.header == images[-1].header
    assert (newest.height, newest.width, info.height, info.width) == (height, width, height, width)
    np.testing.assert_allclose(info.k[0], walk.intrinsics[0, 0], rtol=1e-3)
    depth = np.frombuffer(newest.data, np.float32).reshape(height, width)
    inner = cv2.erode((body | moving).astype(np.uint8), np.ones((7, 7))) > 0
    free = cv2.dilate((body | moving).astype(np.uint8), np.ones((7, 7))) == 0
    assert np.isnan(depth[inner]).all()
    ratio = depth[free] / walk.depth_m[2][free]
    unit = np.nanmedian(ratio)
    assert np.mean(np.abs(ratio / unit - 1) < 0.02) > 0.9, "but at edges"
    points = unpack(cloud)
    column = points["x"] / points["z"] * info.k[0] + info.k[2]
    assert column.min() > width // 4 - 3
