# SPDX-License-Identifier: Apache-2.0
"""What arrives at the node, good and bad, raw and compressed: two nodes in two namespaces, each with its own camera."""

import io
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
from da3_ros.msg import DepthWindow, MapInfo
from diagnostic_msgs.msg import DiagnosticArray
from footage import Footage, matrix, position
from geometry_msgs.msg import PoseStamped, TransformStamped
from harness import Camera, Graph, Inbox, Process, newest_status, stamp_ns
from nav_msgs.msg import Path
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from da3_core.synthetic import Walk


@dataclass(frozen=True, eq=False, repr=False)
class Rig:
    """A node with its namespace, the camera that feeds it, and the footage of this module."""

    graph: Graph
    namespace: str
    node: Process
    camera: Camera
    footage: Footage

    def topic(self, name: str) -> str:
        return f"/{self.namespace}/{name}"

    def play(self, images: list[Any], expected: list[Any] | None = None) -> Inbox:
        """What the node publishes about these images; `expected` are those of them that it should use."""
        input_topic = self.topic("image" if isinstance(images[0], Image) else "image/compressed")
        expected = images if expected is None else expected
        outputs = {
            "da3/depth/image": Image,
            "da3/depth/camera_info": CameraInfo,
            "da3/image_rect": Image,
            "da3/pose": PoseStamped,
            "da3/path": Path,
            "da3/window": DepthWindow,
        }
        newest = stamp_ns(expected[-1])
        with self.graph.listen({self.topic(name): kind for name, kind in outputs.items()}) as inbox:
            self.camera.publish(input_topic, *images)
            self.graph.wait_for(
                f"outputs of {len(expected)} images",
                lambda: all(stamp_ns(messages[-1]) == newest if messages else False for messages in inbox.values()),
            )
            assert inbox.stamps(self.topic("da3/depth/image")) == [stamp_ns(image) for image in expected]
            return Inbox({name: inbox[self.topic(name)] for name in outputs})

    def counts(self) -> dict[str, int]:
        """Refused images by reason."""
        return self.values("refused, ")

    def values(self, prefix: str) -> dict[str, int]:
        """The values of the next report of diagnostics that begin so."""
        name = f"{self.namespace}/da3: input"
        with self.graph.listen({"/diagnostics": DiagnosticArray}) as inbox:
            status = self.graph.wait_for("diagnostics", lambda: newest_status(inbox["/diagnostics"], name))
        return {each.key.removeprefix(prefix): int(each.value) for each in status.values if each.key.startswith(prefix)}


@pytest.fixture(scope="module")
def rigs(graph: Graph, walk: Walk) -> Iterator[dict[str, Rig]]:
    """`raw` and `jpeg`: nodes that use every image, in windows of two."""
    common = {"every_frame": "true", "window.size": 2, "process_res": walk.images.shape[2]}

    def rig(name: str, transport: str) -> Rig:
        parameters = {**common, "image_transport": transport, "map_frame": f"{name}_map"}
        node = graph.start_node(parameters, "-r", f"__ns:=/{name}")
        return Rig(graph, name, node, graph.camera(), Footage(walk, camera_frame=f"{name}_optical_frame"))

    return {"raw": rig("raw", "raw"), "jpeg": rig("jpeg", "compressed")}


@pytest.fixture
def raw(rigs: dict[str, Rig]) -> Rig:
    rigs["raw"].footage.cut()
    return rigs["raw"]


@pytest.fixture
def jpeg(rigs: dict[str, Rig]) -> Rig:
    rigs["jpeg"].footage.cut()
    return rigs["jpeg"]


def picture(image: Image) -> np.ndarray:
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)


def encoded(image: Image, encoding: str, convert: Callable[[np.ndarray], np.ndarray], padding: int = 0) -> Image:
    """The same image in another encoding, its rows longer than their pixels by `padding` bytes."""
    pixels = np.ascontiguousarray(convert(picture(image)))
    rows = np.pad(pixels.reshape(pixels.shape[0], -1), ((0, 0), (0, padding)), constant_values=7)
    message = Image(header=image.header, height=image.height, width=image.width, encoding=encoding)
    message.step = rows.strides[0]
    message.data.frombytes(rows.tobytes())
    return message


def compressed(image: Image, extension: str) -> CompressedImage:
    message = CompressedImage(header=image.header, format=extension)
    message.data.frombytes(cv2.imencode(f".{extension}", picture(image)[..., ::-1])[1].tobytes())
    return message


def changed(image: Any, **fields: Any) -> Any:
    result = deepcopy(image)
    for name, value in fields.items():
        setattr(result, name, value)
    return result


def test_colour_orders_and_row_padding_are_understood(raw: Rig) -> None:
    rgb, bgr, padded, with_alpha, grey = raw.footage.images([0, 1, 2, 3, 4])
    grey_of = lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)  # noqa: E731
    sent = [
        rgb,
        encoded(bgr, "bgr8", lambda pixels: pixels[..., ::-1]),
        encoded(padded, "rgb8", lambda pixels: pixels, padding=13),
        encoded(with_alpha, "bgra8", lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_RGB2BGRA)),
        encoded(grey, "mono8", grey_of),
    ]
    seen = [picture(image) for image in raw.play(sent)["da3/image_rect"]]
    for frame in range(4):
        np.testing.assert_array_equal(seen[frame], raw.footage.walk.images[frame])
    np.testing.assert_array_equal(seen[4], np.repeat(grey_of(raw.footage.walk.images[4])[..., None], 3, axis=2))


def test_compressed_images_are_decoded(jpeg: Rig) -> None:
    images = jpeg.footage.images([5, 6, 7])
    formats = ["png", "jpeg", "png"]
    out = jpeg.play([compressed(image, extension) for image, extension in zip(images, formats, strict=True)])
    exact, close, _ = (picture(image) for image in out["da3/image_rect"])
    np.testing.assert_array_equal(exact, jpeg.footage.walk.images[5])
    assert np.abs(close.astype(int) - jpeg.footage.walk.images[6]).mean() < 4
    assert {window.header.frame_id for window in out["da3/window"]} == {"jpeg_map"}


def test_bad_images_are_refused_counted_and_survived(raw: Rig) -> None:
    good = raw.footage.images([0, 1])
    a, b, c, d, e, f, g, h = raw.footage.images([2] * 8)
    bad = [
        changed(a, encoding="17FC9"),
        changed(b, encoding="17FC9"),
        changed(c, data=c.data[:-1]),
        changed(d, data=d.data[:0]),
        changed(e, step=e.width * 3 - 1),
        changed(f, height=0),
        changed(g, width=0, height=0, data=g.data[:0]),
        changed(h, height=2**31),
    ]
    after = raw.footage.images([3, 4])
    raw.play([*good, good[-1], *bad, *after], expected=[*good, *after])
    counts = raw.counts()
    assert counts == {"stamp": 1, "encoding": 2, "truncated": 3, "step": 1, "size": 2}
    for sentence in ("'17FC9'; accepted are rgb8", "bytes of data", "has a step of", "168x0 pixels", "same stamp"):
        assert raw.node.log.count(sentence) == 1, sentence


def test_damaged_compressed_images_are_refused_counted_and_survived(jpeg: Rig) -> None:
    good = [compressed(image, "jpeg") for image in jpeg.footage.images([0, 1])]
    a, b, c, d = (compressed(image, "jpeg") for image in jpeg.footage.images([2] * 4))
    scrambled = d.data[:]
    scrambled[2:-2] = type(scrambled)("B", bytes(len(scrambled) - 4))
    bad = [
        changed(a, format="h264", data=type(a.data)("B", b"\0\0\0\1 no image")),
        changed(b, data=b.data[: len(b.data) // 2]),
        changed(c, data=c.data[:0]),
        changed(d, data=scrambled),
    ]
    after = [compressed(image, "jpeg") for image in jpeg.footage.images([3, 4])]
    jpeg.play([*good, *bad, *after], expected=[*good, *after])
    counts = jpeg.counts()
    assert sum(counts.values()) == len(bad)
    assert {"encoding", "truncated"} <= counts.keys()


def test_hundreds_of_images_that_make_a_decoder_raise_leave_the_memory_as_it_was(jpeg: Rig) -> None:
    """A long text in a PNG; each used to stay in memory with the exception that it led to."""
    chunks = PIL.PngImagePlugin.PngInfo()
    chunks.add_text("comment", "x" * 3_000_000, zip=True)
    file = io.BytesIO()
    PIL.Image.fromarray(jpeg.footage.walk.images[0]).save(file, "png", pnginfo=chunks)
    bad = CompressedImage(format="png")
    bad.data.frombytes(file.getvalue())

    def send(count: int) -> int:
        refused = jpeg.counts().get("undecodable", 0)
        for _ in range(count // 100):
            jpeg.camera.publish(jpeg.topic("image/compressed"), *[bad] * 100)
            refused += 100
            jpeg.graph.wait_for("their refusal", lambda refused=refused: jpeg.counts()["undecodable"] >= refused)
        return jpeg.node.resident_bytes

    before = send(100)
    assert send(300) - before < 20e6
    assert jpeg.node.log.count("is damaged") <= 2


def test_calibration_is_used_and_nonsense_in_it_is_not(raw: Rig) -> None:
    """K of another size of the same image is scaled; NaN and zeros leave the model's own estimate."""
    true_k = raw.footage.walk.intrinsics - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])

    def comes_out(info: CameraInfo, expected: np.ndarray) -> None:
        """Two topics are not in order with each other: an image may overtake the calibration sent before it."""
        raw.camera.publish(raw.topic("camera_info"), info)
        for _ in range(10):
            raw.footage.cut()
            out = raw.play(raw.footage.images([0, 1]))["da3/depth/camera_info"]
            assert {(each.height, each.width) for each in out} == {raw.footage.walk.size}
            if np.allclose(np.reshape(out[-1].k, (3, 3)), expected):
                return
        np.testing.assert_allclose(np.reshape(out[-1].k, (3, 3)), expected)

    info = raw.footage.camera_info(raw.footage.images([0])[0])
    focal = 1.25 * info.k[0]
    other = changed(info, k=[focal, 0.0, 70.0, 0.0, focal, 60.0, 0.0, 0.0, 1.0], p=[0.0] * 12)
    comes_out(other, np.array([[focal, 0, 70], [0, focal, 60], [0, 0, 1]]))
    comes_out(changed(info, k=[math.nan] * 9), true_k)
    double = changed(other, width=2 * info.width, height=2 * info.height)
    comes_out(double, np.array([[focal / 2, 0, 34.75], [0, focal / 2, 29.75], [0, 0, 1]]))
    comes_out(changed(info, k=[0.0] * 9), true_k)
    rectified = changed(other, p=[focal, 0.0, 75.0, 0.0, 0.0, focal, 65.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    comes_out(rectified, np.array([[focal, 0, 75], [0, focal, 65], [0, 0, 1]]))
    comes_out(info, true_k)


def test_images_of_a_lens_come_out_rectified(raw: Rig) -> None:
    """Every pixel of what is sent shows, by OpenCV, what its ray meets in the room."""
    walk = raw.footage.walk
    images = raw.footage.images([0, 1, 2])
    info = raw.footage.camera_info(images[0])
    pinhole = np.reshape(info.p, (3, 4))[:, :3]
    info.d, info.k = [-0.08, 0.02, 0.0, 0.0, 0.0], [110.0, 0.0, 85.0, 0.0, 111.0, 61.0, 0.0, 0.0, 1.0]
    pixels = np.stack(np.meshgrid(np.arange(walk.size[1]), np.arange(walk.size[0])), -1).reshape(-1, 1, 2)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9)
    lens = (np.reshape(info.k, (3, 3)), np.array(info.d))
    seen = cv2.undistortPointsIter(pixels.astype(np.float64), *lens, None, pinhole, criteria)
    seen = seen.reshape(*walk.size, 2).astype(np.float32)
    before = 0.0
    for image in images:
        rgb = cv2.remap(picture(image), seen, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        before += difference(rgb, picture(image))
        image.data[:] = type(image.data)("B", rgb.tobytes())
    raw.camera.publish(raw.topic("camera_info"), info)
    raw.graph.wait_for("rectified images", lambda: shown_difference(raw, images) < 0.25 * before)
    raw.camera.publish(raw.topic("camera_info"), raw.footage.camera_info(images[0]))


def shown_difference(raw: Rig, images: list[Image]) -> float:
    """Of `image_rect` to the walk; the calibration may be overtaken by the images."""
    raw.footage.cut()
    now = raw.footage.images([0, 1, 2])
    for image, new in zip(images, now, strict=True):
        new.data = image.data
    out = raw.play(now)
    assert not any(any(each.d) for each in out["da3/depth/camera_info"])
    return sum(difference(picture(each), raw.footage.walk.images[i]) for i, each in enumerate(out["da3/image_rect"]))


def difference(first: np.ndarray, second: np.ndarray) -> float:
    inner = np.s_[20:-20, 20:-20]
    return float(np.abs(first[inner].astype(int) - second[inner]).mean())


def test_half_wrong_calibration_is_counted_and_told_by_reason_and_never_switches_the_node_off(raw: Rig) -> None:
    info = raw.footage.camera_info(raw.footage.images([0])[0])
    without_corner, leaning = list(info.k), list(info.k)
    without_corner[8], leaning[1] = 0.0, 80.0
    for k, reason in ((without_corner, "lower left that is not 0, 0 0 1"), (leaning, "a skew of 80")):
        for _ in range(8):
            raw.camera.publish(raw.topic("camera_info"), changed(info, k=k))
            raw.footage.cut()
            raw.play(raw.footage.images([0, 1]))
        assert raw.node.log.count(reason) == 1
    refused = raw.values("CameraInfo refused, ")
    assert refused["camera_info_matrix"] > 5
    assert refused["camera_info_skew"] > 5
    raw.camera.publish(raw.topic("camera_info"), info)


def test_time_that_runs_backwards_starts_a_new_map(raw: Rig) -> None:
    """A bag that loops: the same stamps come again, and the trajectory begins at the origin again."""
    images = raw.footage.images([0, 1, 2, 3])
    first = raw.play(images)
    again = raw.play(images)
    before, after = ({window.map_segment for window in out["da3/window"]} for out in (first, again))
    assert after == {segment + 1 for segment in before}
    info = raw.graph.latched(raw.topic("da3/map_info"), MapInfo)
    assert (info.segment, info.reason, stamp_ns(info)) == (*after, "backwards", stamp_ns(images[0]))
    assert (info.header.frame_id, info.unit, info.up) == ("raw_map", "model units", "first camera")
    for out in (first, again):
        np.testing.assert_allclose(position(out["da3/pose"][0].pose), 0, atol=1e-6)
        assert np.linalg.norm(position(out["da3/pose"][-1].pose)) > 0.1
        assert len(out["da3/path"][-1].poses) == len(images)


def test_a_new_image_size_starts_a_new_map(raw: Rig) -> None:
    images = raw.footage.images([0, 1, 2])
    smaller = [half(image) for image in raw.footage.images([3, 4, 5])]
    out = raw.play([*images, *smaller])
    assert [len(window.views) for window in out["da3/window"]] == [2, 2, 2, 2]
    assert [len(path.poses) for path in out["da3/path"]] == [2, 3, 2, 3]
    newest_of_old, first_of_new = out["da3/pose"][2], out["da3/pose"][3]
    assert np.linalg.norm(position(newest_of_old.pose)) > 0.1
    np.testing.assert_allclose(position(first_of_new.pose), 0, atol=1e-6)


def half(image: Image) -> Image:
    pixels = cv2.resize(picture(image), (image.width // 2, image.height // 2), interpolation=cv2.INTER_AREA)
    message = Image(header=image.header, height=pixels.shape[0], width=pixels.shape[1], encoding="rgb8")
    message.step = pixels.strides[0]
    message.data.frombytes(pixels.tobytes())
    return message


def test_a_mounted_camera_keeps_its_parent(raw: Rig) -> None:
    """Where the camera hangs in a tree, the map is joined to the root of that tree, and the chain gives the pose."""
    mounting = TransformStamped(child_frame_id=raw.footage.camera_frame)
    mounting.header.frame_id = "base_link"
    mounting.transform.translation.x, mounting.transform.translation.z = 0.3, 1.1
    mounting.transform.rotation.x, mounting.transform.rotation.w = -math.sqrt(0.5), math.sqrt(0.5)
    raw.camera.publish("/tf_static", TFMessage(transforms=[mounting]), latched=True, readers=2)
    for _ in range(10):  # images may overtake the mounting, which comes through another subscription
        with raw.graph.listen({"/tf": TFMessage}) as inbox:
            poses = raw.play(raw.footage.images([0, 1, 2, 3]))["da3/pose"]
            edges = [transform for message in inbox["/tf"] for transform in message.transforms]
        if edges[0].child_frame_id == "base_link":
            break
    assert {(edge.header.frame_id, edge.child_frame_id) for edge in edges} == {("raw_map", "base_link")}
    camera_to_base = matrix(mounting.transform.translation, mounting.transform.rotation)
    for pose, edge in zip(poses, edges, strict=True):
        base_to_map = matrix(edge.transform.translation, edge.transform.rotation)
        camera_to_map = matrix(pose.pose.position, pose.pose.orientation)
        np.testing.assert_allclose(base_to_map @ camera_to_base, camera_to_map, atol=1e-6)


def test_it_yields_to_another_publisher_of_its_map_and_names_it(raw: Rig) -> None:
    claim = TransformStamped(child_frame_id="base_link")
    claim.header.frame_id, claim.transform.rotation.w = "raw_map", 1.0
    raw.camera.publish("/tf", TFMessage(transforms=[claim]), readers=2)

    def yields() -> bool:
        raw.play(raw.footage.images([0, 1]))
        return "/publisher publishes raw_map -> base_link on /tf" in raw.node.log

    raw.graph.wait_for("the warning", yields)
    with raw.graph.listen({"/tf": TFMessage}) as inbox:
        raw.play(raw.footage.images([2, 3]))
        assert not inbox["/tf"]


def test_calibration_of_another_picture_is_refused(raw: Rig) -> None:
    """The last test of this node, which takes no more images afterwards."""
    info = raw.footage.camera_info(raw.footage.images([0])[0])
    info.height *= 2
    raw.camera.publish(raw.topic("camera_info"), info)
    sentence = f"CameraInfo is for {info.width}x{info.height} pixels and the image has {info.width}x{info.height // 2}"

    def published_and_refused() -> bool:
        raw.camera.publish(raw.topic("image"), *raw.footage.images([2]))
        return sentence in raw.node.log

    raw.graph.wait_for("the refusal", published_and_refused)
    assert raw.counts()["camera_info_size"] > 0


def test_rectified_images_take_the_calibration_that_is_theirs_alone(graph: Graph, walk: Walk) -> None:
    """A lens in `camera_info`, which they share with raw images, and another camera in `camera_info_rect`."""
    footage = Footage(walk, camera_frame="rect_optical_frame")
    parameters = {"every_frame": "true", "window.size": 1, "process_res": walk.images.shape[2], "map_frame": "rect_map"}
    remapped = [f"{name}:=/stereo/{topic}" for name, topic in (("image", "image_rect"), ("camera_info", "camera_info"))]
    node = graph.start_node(parameters, "-r", "__ns:=/rect", *(word for each in remapped for word in ("-r", each)))
    camera = graph.camera()
    shared = footage.camera_info(footage.images([0])[0])
    shared.d = [-0.2, 0.1, 0.0, 0.0, 0.0]
    own = changed(shared, d=[0.0] * 5, k=[150.0, 0.0, 80.0, 0.0, 150.0, 60.0, 0.0, 0.0, 1.0])
    own.p = [150.0, 0.0, 80.0, 0.0, 0.0, 150.0, 60.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    outputs = {"/rect/da3/depth/camera_info": CameraInfo, "/rect/da3/image_rect": Image}
    with graph.listen(outputs) as inbox:
        infos, shown = inbox.values()

        def is_known(p: list[float]) -> bool:
            camera.publish("/stereo/image_rect", *footage.images([0]))
            return bool(infos) and np.allclose(infos[-1].p, p)

        camera.publish("/stereo/camera_info", shared)
        graph.wait_for("P of the shared calibration", lambda: is_known(list(shared.p)))
        camera.publish("/stereo/camera_info_rect", own)
        graph.wait_for("P of their own", lambda: is_known(list(own.p)))
        camera.publish("/stereo/camera_info", shared)
        graph.wait_for("it to stay", lambda: is_known(list(own.p)))
        assert all(np.array_equal(picture(each), walk.images[0]) for each in shown)
    node.interrupt()
