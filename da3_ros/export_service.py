# SPDX-License-Identifier: Apache-2.0
"""The service `~/export`: what the node has seen, as files. The stream goes on meanwhile."""

import json
import os
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, get_args

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from da3_core.errors import InputError
from da3_core.export import EXPORTERS, export, parse_formats
from da3_core.session_record import Scope, SessionRecord
from da3_ros.export_paths import export_root, folder_inside, write_inside
from da3_ros.srv import Export

BACKGROUND_NICENESS = 10  # a tenth of the share of others; with much less, the lock of Python would come free too late
T = TypeVar("T")

EXAMPLE = '{"glb": {"sky": "far"}}'


class ExportService:
    """`~/export`, from construction to `close`, one at a time.

    An export runs in a thread of its own, on arrays that nobody changes any more.

    Args:
        root: the parameter export.root.
        record: what can be exported.

    Raises:
        InputError: `root` is no absolute path.
    """

    def __init__(self, node: Node, root: str, record: SessionRecord) -> None:
        self._node, self._root, self._record = node, export_root(root), record
        self._running = threading.Lock()
        group = ReentrantCallbackGroup()  # so that a second request is answered while the first is at work
        self._service = node.create_service(Export, "~/export", self._export, callback_group=group)

    def close(self) -> None:
        self._node.destroy_service(self._service)

    def _export(self, request: Export.Request, response: Export.Response) -> Export.Response:
        if not self._running.acquire(blocking=False):
            response.message = "Another export is running; ask again when it has ended."
            return response
        try:
            files, response.views = in_background(lambda: self._write(request))
            response.files = [str(file) for file in files]
            response.message = f"Wrote {len(files)} files of {response.views} views."
            response.success = True
        except InputError as refusal:
            response.message = _sentence(str(refusal))
        except OSError as error:
            response.message = f"Cannot write below {self._root}: {error.strerror or error}."
        except Exception as error:  # whatever an exporter can raise: the node lives on
            self._node.get_logger().error(traceback.format_exc())
            response.message = f"The export failed: {error}"
        finally:
            self._running.release()
        return response

    def _write(self, request: Export.Request) -> tuple[list[Path], int]:
        folder = folder_inside(self._root, request.directory)
        options = parse_options(request.export_kwargs_json)
        check_possible(request.export_format, options)
        if request.scope not in get_args(Scope):
            raise InputError(f"The scope is {request.scope!r}; give one of {', '.join(get_args(Scope))}.")
        prediction = self._record.prediction(request.scope)

        percentile, points = request.conf_thresh_percentile, request.num_max_points
        files = write_inside(
            self._root,
            folder,
            lambda staging: export(
                prediction,
                staging,
                request.export_format,
                export_kwargs=options,
                conf_thresh_percentile=None if percentile < 0 else percentile,
                num_max_points=points or None,
            ),
        )
        return files, len(prediction.depth)


def in_background(work: Callable[[], T]) -> T:
    """The result of `work`, done in a thread that the others of this process go before."""

    def step_back() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)  # of the thread, on Linux

    with ThreadPoolExecutor(1, initializer=step_back) as worker:
        return worker.submit(work).result()


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


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
