# SPDX-License-Identifier: Apache-2.0
"""The service `~/export`: what the node has seen, as files. The stream goes on meanwhile."""

import json
from typing import Any, get_args

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from da3_core.errors import InputError
from da3_core.export import EXPORTERS, export, left_out, parse_formats
from da3_core.ros_data.camera_places import CameraPlaces
from da3_core.ros_data.conventions import in_map_axes
from da3_core.storage.allowed_folders import AllowedFolders
from da3_core.stream.record import Scope, SessionRecord
from da3_ros.background import BackgroundWork, as_sentence
from da3_ros.srv import Export

EXAMPLE = '{"glb": {"sky": "far"}}'


class ExportService:
    """`~/export`, from construction to `close`, one at a time.

    An export runs in a thread of its own, on arrays that nobody changes any more.

    Args:
        root: the parameter export.root.
        record: what can be exported.
        map_frame: the frame of the poses.
        places: says in which frame they are where images came with them.

    Raises:
        InputError: `root` is no absolute path.
    """

    def __init__(self, node: Node, root: str, record: SessionRecord, map_frame: str, places: CameraPlaces) -> None:
        self._node, self._root, self._record = node, AllowedFolders.of_parameter("export.root", root), record
        self._map_frame, self._places = map_frame, places
        self._work = BackgroundWork(node.get_logger().error, "export", self._root.root)
        group = ReentrantCallbackGroup()  # so that a second request is answered while the first is at work
        self._service = node.create_service(Export, "~/export", self._export, callback_group=group)

    def close(self) -> None:
        self._node.destroy_service(self._service)

    def _export(self, request: Export.Request, response: Export.Response) -> Export.Response:
        self._work.run(response, lambda: self._write(request, response))
        return response

    def _write(self, request: Export.Request, response: Export.Response) -> None:
        folder = self._root.export_folder(request.directory)
        options = parse_options(request.export_kwargs_json)
        check_possible(request.export_format, options)
        if request.scope not in get_args(Scope):
            raise InputError(f"The scope is {request.scope!r}; give one of {', '.join(get_args(Scope))}.")
        prediction = in_map_axes(self._record.prediction(request.scope), self._map_frame, self._places.odom_frame)

        percentile, points = request.conf_thresh_percentile, request.num_max_points
        files = folder.write(
            lambda staging: export(
                prediction,
                staging,
                request.export_format,
                export_kwargs=options,
                conf_thresh_percentile=None if percentile < 0 else percentile,
                num_max_points=points or None,
            ),
        )
        response.files = [str(file) for file in files]
        response.views = len(prediction.depth)
        response.message = f"Wrote {len(files)} files of {response.views} views."
        unplaced = self._record.unplaced if request.scope == "session" else (0, ())
        lacking = left_out(prediction, request.export_format, unplaced)
        if lacking:
            response.message += f" {as_sentence(lacking)}"
        response.success = not lacking


def parse_options(text: str) -> dict[str, dict[str, Any]]:
    """Options by format from JSON; none for an empty text.

    Raises:
        InputError: no JSON, or no object of objects.
    """
    try:
        options = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"export_kwargs_json is no JSON ({error}); give options by format such as {EXAMPLE}."
        ) from error
    if not isinstance(options, dict) or not all(isinstance(each, dict) for each in options.values()):
        raise InputError(f"export_kwargs_json is {text[:80]!r}; give options by format such as {EXAMPLE}.")
    return options


def check_possible(export_format: str, options: dict[str, dict[str, Any]]) -> None:
    """Refuse what a live node can never write, whatever it has seen.

    Raises:
        InputError: an unknown format, one that needs more than depth and cameras, or files that are not its own.
    """
    for name in parse_formats(export_format):
        if missing := {"gaussians", "features"} & set(EXPORTERS[name].needs):
            raise InputError(
                f"The live node computes no {missing.pop()}, which the format {name!r} needs; run da3 on images."
            )
    if options.get("colmap", {}).get("copy_images"):
        # Otherwise anybody on the network could have any file of this computer copied under the name of an image.
        raise InputError("The live node has no image files to copy; leave the option copy_images of colmap out.")
