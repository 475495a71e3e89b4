# SPDX-License-Identifier: Apache-2.0
"""`colmap` opened by pycolmap and by our own reader, and reconstructions of every camera model as input."""

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from da3_core.errors import InputError
from da3_core.export import check_request, export
from da3_core.formats.colmap_model import CAMERA_MODELS, PANORAMA, Camera, read_model
from da3_core.model.presets import PRESETS
from da3_core.prediction import Prediction
from da3_core.sources.colmap import open_colmap

pycolmap = pytest.importorskip("pycolmap")

NAMES = ["left/a.jpg", "left/b.jpg", "ri ght/ä.jpg"]


@pytest.fixture
def turned(prediction: Prediction) -> Prediction:
    """With a rotation, and with processed images that are a crop of the images as given at a quarter of their size."""
    assert prediction.extrinsics is not None
    extrinsics = prediction.extrinsics.copy()
    extrinsics[2, :3, :3] = cv2.Rodrigues(np.array([0.3, -0.2, 0.1]))[0]
    processed_from_original = np.array([[0.25, 0, -3], [0, 0.5, -1], [0, 0, 1]])
    return dataclasses.replace(
        prediction,
        extrinsics=extrinsics,
        processed_from_original=np.tile(processed_from_original, (3, 1, 1)),
        original_sizes=np.array([[60, 200]] * 3),
    )


@pytest.mark.parametrize("text", [False, True])
def test_pycolmap_reads_what_was_predicted(turned: Prediction, tmp_path: Path, text: bool) -> None:
    files = export(turned, tmp_path, "colmap", export_kwargs={"colmap": {"text": text, "max_points": 500}})["colmap"]
    suffixes = [".bin", ".txt"] if text else [".bin"]
    assert files == sorted(tmp_path / f"sparse/0/{n}{s}" for n in ("cameras", "images", "points3D") for s in suffixes)
    if text:
        for name in ("cameras", "images", "points3D"):
            (tmp_path / f"sparse/0/{name}.bin").unlink()
    model = pycolmap.Reconstruction(tmp_path / "sparse/0")

    assert turned.extrinsics is not None
    assert turned.intrinsics is not None
    assert turned.processed_images is not None
    assert (model.num_images(), model.num_points3D()) == (3, 500)
    for view in range(3):
        image, camera = model.images[view + 1], model.cameras[view + 1]
        assert text or image.name == NAMES[view]  # COLMAP's text format ends a name at a blank
        np.testing.assert_allclose(image.cam_from_world().matrix(), turned.extrinsics[view, :3], atol=1e-6)
        # 0.25 u - 3 = 40 x + 21 and 0.5 v - 1 = 41 y + 14
        assert (camera.width, camera.height, camera.model_name) == (200, 60, "PINHOLE")
        np.testing.assert_allclose(camera.params, [160, 82, 96, 30])

    for point_id, point in model.points3D.items():
        (element,) = point.track.elements
        image = model.images[element.image_id]
        seen = image.points2D[element.point2D_idx]
        assert seen.point3D_id == point_id
        np.testing.assert_allclose(image.project_point(point.xyz), seen.xy, atol=1e-3)
        column, row = (np.array(seen.xy) * (0.25, 0.5) - (3, 1) - 0.5).round(6).astype(int)
        view = element.image_id - 1
        np.testing.assert_array_equal(point.color, turned.processed_images[view, row, column])
        depth = (turned.extrinsics[view] @ np.append(point.xyz, 1))[2]
        np.testing.assert_allclose(depth, turned.depth[view, row, column], rtol=1e-5)
        assert turned.conf is not None
        assert turned.conf[view, row, column] >= np.percentile(turned.conf, 40)
        assert not turned.sky[view, row, column]


@pytest.mark.parametrize("suffix", [".bin", ".txt"])
def test_own_reader_loses_nothing(turned: Prediction, tmp_path: Path, suffix: str) -> None:
    export(turned, tmp_path, "colmap", export_kwargs={"colmap": {"text": True, "flat": True}})
    for path in tmp_path.iterdir():
        if path.suffix != suffix:
            path.unlink()
    cameras, images = read_model(tmp_path)
    assert [image.name for image in images] == NAMES
    for image, extrinsics in zip(images, turned.extrinsics, strict=True):
        np.testing.assert_allclose(image.world_to_camera, extrinsics, atol=1e-6)
        assert cameras[image.camera_id] == Camera(image.camera_id, "PINHOLE", 200, 60, (160.0, 82.0, 96.0, 30.0))


def test_all_depth_invalid_gives_cameras_and_no_points(turned: Prediction, tmp_path: Path) -> None:
    export(dataclasses.replace(turned, depth=np.zeros_like(turned.depth), conf=None, sky=None), tmp_path, "colmap")
    model = pycolmap.Reconstruction(tmp_path / "sparse/0")
    assert (model.num_images(), model.num_points3D()) == (3, 0)


def test_without_confidence_and_sizes_every_pixel_counts_in_its_own_pixels(
    prediction: Prediction, tmp_path: Path
) -> None:
    bare = dataclasses.replace(
        prediction, conf=None, sky=None, original_sizes=None, processed_from_original=None, image_names=None
    )
    export(bare, tmp_path, "colmap", export_kwargs={"colmap": {"image_names": ["a", "b", "c"]}})
    model = pycolmap.Reconstruction(tmp_path / "sparse/0")
    assert model.num_points3D() == prediction.depth.size - 5
    assert model.cameras[1].width == prediction.depth.shape[2]
    assert [model.images[i].name for i in (1, 2, 3)] == ["a", "b", "c"]


def test_names_are_needed_fitting_and_different(prediction: Prediction, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the images as paths, or set the option image_names"):
        check_request("colmap", PRESETS["da3-small"], views=2, images_are_paths=False)
    named = {"colmap": {"image_names": ["a.png", "a.png", "b.png"]}}
    check_request("colmap", PRESETS["da3-small"], views=3, images_are_paths=False, export_kwargs=named)
    with pytest.raises(InputError, match=r"'a.png' twice"):
        export(prediction, tmp_path, "colmap", export_kwargs=named)
    with pytest.raises(InputError, match=r"2 image names for 3 images"):
        export(prediction, tmp_path, "colmap", export_kwargs={"colmap": {"image_names": ["a", "b"]}})
    with pytest.raises(InputError, match=r"cannot copy '/data/run/left/a.jpg'"):
        export(prediction, tmp_path, "colmap", export_kwargs={"colmap": {"copy_images": True}})
    assert list(tmp_path.iterdir()) == []


def parameters_of(model: str) -> tuple[float, ...]:
    typical = {"f": 90, "fx": 90, "fy": 80, "cx": 52, "cy": 37, "k1": -0.05, "k2": 0.02, "p1": 0.01, "omega": 0.7}
    typical |= {"k": -0.05, "alpha": 0.5, "beta": 1.1}
    return tuple(float(typical.get(name, 0.004)) for name in CAMERA_MODELS[model])


PERSPECTIVE = [model for model in CAMERA_MODELS if model != PANORAMA]


def test_models_have_the_numbers_of_colmap() -> None:
    numbers = {name: int(value) for name, value in pycolmap.CameraModelId.__members__.items() if name in CAMERA_MODELS}
    assert numbers == {name: number for number, name in enumerate(CAMERA_MODELS)}


@pytest.mark.parametrize("model", PERSPECTIVE)
def test_distortion_is_colmaps(model: str) -> None:
    x, y = np.random.default_rng(1).uniform(-0.6, 0.6, (2, 40))
    camera = Camera(1, model, 100, 75, parameters_of(model))
    theirs = pycolmap.Camera(model=model, width=100, height=75, params=camera.parameters)
    expected = [theirs.img_from_cam(np.array([a, b, 1.0])) for a, b in zip(x, y, strict=True)]
    distorted = np.column_stack([*camera.lens().distort(x, y), np.ones(40)]) @ camera.intrinsics().T
    np.testing.assert_allclose(distorted[:, :2], expected, atol=1e-9)


def reconstruction(folder: Path, model: str, image: np.ndarray, names: list[str], size: tuple[int, int]) -> Any:
    """A reconstruction of one camera, written by pycolmap, whose images have the given pixels."""
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model=model, width=size[0], height=size[1], params=parameters_of(model), camera_id=7)
    reconstruction.add_camera_with_trivial_rig(camera)
    for index, name in enumerate(names):
        record = pycolmap.Image(name=name, camera_id=7, image_id=index + 1)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0, 0, np.sin(0.2), np.cos(0.2)])), [index, 2, 3])
        reconstruction.add_image_with_trivial_frame(record, pose)
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "images" / name)
    (folder / "sparse/0").mkdir(parents=True)
    reconstruction.write(folder / "sparse/0")
    return reconstruction


@pytest.mark.parametrize("model", PERSPECTIVE)
def test_a_straight_line_is_straight_after_undistortion(tmp_path: Path, model: str) -> None:
    width, height, (x, y) = 100, 75, np.mgrid[-1:1:801j, -1:1:801j].reshape(2, -1)
    camera = Camera(7, model, width, height, parameters_of(model))
    # The world is a plane at depth 1, white where 2x + y > 0.3: paint it as the distorted camera sees it.
    u, v, _ = camera.intrinsics() @ np.stack([*camera.lens().distort(x, y), np.ones(x.size)])
    image = np.zeros((height, width, 3), np.uint8)
    inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
    image[v[inside].astype(int), u[inside].astype(int)] = np.where(2 * x + y > 0.3, 255, 0)[inside, None]
    reconstruction(tmp_path, model, image, ["b/10.png", "b/2.png", "a.png"], (width, height))

    scene = open_colmap(tmp_path, undistort=True).read(lambda: tmp_path, int)
    root = tmp_path / ("images" if "PINHOLE" in model else "input_images")
    assert scene.images == (root / "a.png", root / "b/2.png", root / "b/10.png")
    assert scene.extrinsics is not None
    assert scene.intrinsics is not None
    np.testing.assert_allclose(scene.extrinsics[:, 0, 3], [2, 1, 0])
    np.testing.assert_allclose(scene.extrinsics[0, :2, :2], [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])

    rectified = np.asarray(Image.open(scene.images[0]))[..., 0]
    k = scene.intrinsics[0]
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    side = 2 * (columns - k[0, 2]) / k[0, 0] + (rows - k[1, 2]) / k[1, 1] - 0.3
    clear = np.abs(side) > 4 / 80  # some pixels off the edge
    assert 0.2 < (side > 0).mean() < 0.8
    assert ((rectified > 127) == (side > 0))[clear].all()


def test_how_much_a_rectified_fisheye_keeps_is_said_and_chosen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A circle of 180 degrees, of which a pinhole camera with the same focal length shows less than half."""
    (tmp_path / "sparse").mkdir()
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((96, 96, 3), 255, np.uint8)).save(tmp_path / "images/a.png")
    (tmp_path / "sparse/cameras.txt").write_text(f"1 OPENCV_FISHEYE 96 96 {96 / np.pi} {96 / np.pi} 48 48 0 0 0 0\n")
    (tmp_path / "sparse/images.txt").write_text("1 1 0 0 0 0 0 0 1 a.png\n\n")
    shares = []
    for alpha in (0.0, 1.0):
        scene = open_colmap(tmp_path, undistort=True, alpha=alpha).read(lambda: tmp_path, int)
        assert scene.intrinsics is not None
        half_angle = np.rad2deg(np.arctan(48 / scene.intrinsics[0, 0, 0]))
        shares.append((half_angle, np.asarray(Image.open(scene.images[0])).min()))
    assert shares[0] == (pytest.approx(62.8, abs=0.5), 255)
    assert shares[1] == (pytest.approx(80, abs=0.5), 0)
    assert "rectified images keep 41 % of the pixels or more; a rectify alpha nearer to 1 keeps more" in caplog.text


def test_without_undistortion_files_stay_and_intrinsics_follow_their_size(tmp_path: Path) -> None:
    image = np.zeros((150, 200, 3), np.uint8)
    reconstruction(tmp_path, "OPENCV", image, ["a.png"], (100, 75))
    scene = open_colmap(tmp_path, undistort=False).read(lambda: tmp_path, int)
    assert scene.images == (tmp_path / "images/a.png",)
    assert scene.intrinsics is not None
    np.testing.assert_allclose(scene.intrinsics[0], [[180, 0, 104], [0, 160, 74], [0, 0, 1]])


def test_absent_images_are_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reconstruction(tmp_path, "PINHOLE", np.zeros((75, 100, 3), np.uint8), ["a.png", "b.png"], (100, 75))
    (tmp_path / "images/a.png").unlink()
    assert open_colmap(tmp_path, "0", undistort=True).read(lambda: tmp_path, int).images == (tmp_path / "images/b.png",)
    assert "1 of 2 images" in caplog.text
    (tmp_path / "images/b.png").unlink()
    with pytest.raises(InputError, match="none of the 2 images"):
        open_colmap(tmp_path, undistort=True)
    with pytest.raises(InputError, match=r"models found in .*: 0; choose one with sparse_subdir"):
        open_colmap(tmp_path, "1", undistort=True)


def test_images_of_one_stem_stay_apart_and_keep_their_names_and_formats(tmp_path: Path) -> None:
    names = ["IMG_1.JPG", "IMG_1.png", "IMG_1.webp", "b/IMG_1.tif", "b/IMG_1.bmp"]
    pixels = np.random.default_rng(0).integers(0, 255, (5, 5, 3), np.uint8).repeat(15, 0).repeat(20, 1)
    reconstruction(tmp_path, "OPENCV", pixels, names, (100, 75))
    scene = open_colmap(tmp_path, undistort=True).read(lambda: tmp_path, int)
    assert {str(path.relative_to(tmp_path / "input_images")) for path in scene.images} == set(names)
    rectified = [Image.open(path) for path in scene.images]
    assert {image.format for image in rectified} == {"JPEG", "PNG", "WEBP", "TIFF", "BMP"}
    inside = np.stack([np.asarray(image, int)[5:10, 5:10] for image in rectified])
    assert np.abs(inside - inside[0]).max() <= 8  # the JPEG lost some before


@pytest.mark.parametrize(("size", "cause"), [((75, 100), "was turned"), ((100, 60), "was cropped or stretched")])
def test_files_that_are_not_those_of_their_camera_are_refused(
    tmp_path: Path, size: tuple[int, int], cause: str
) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    reconstruction(tmp_path, "PINHOLE", pixels, ["a.png"], (100, 75))
    with pytest.raises(InputError, match=f"a.png is {size[0]} x {size[1]} pixels, and its camera .*{cause}"):
        open_colmap(tmp_path, undistort=True)


def test_panorama_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text(f"1 {PANORAMA} 200 100 200 100\n")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.png\n")
    with pytest.raises(InputError, match=r"is a panorama \(EQUIRECTANGULAR\).*: cut its images into perspective ones"):
        read_model(tmp_path)


BLANK, SEEN, NONE = "\n", "10.5 20 3 4 5e1 -1\n", ""


@pytest.mark.parametrize("observations", [[BLANK] * 3, [SEEN] * 3, [NONE] * 3, [SEEN, NONE, BLANK]])
def test_text_models_of_other_writers_are_read(tmp_path: Path, observations: list[str]) -> None:
    names = ["a b.png", "2.png", "3 4.png"]
    lines = [f"{i} 1 0 0 0 {i} 0 0 1 {name}\n{observations[i]}" for i, name in enumerate(names)]
    (tmp_path / "images.txt").write_text("# comment\n" + "".join(lines), encoding="utf-8-sig")
    cameras = "1 PINHOLE 100 75 90 80 50 37\n2 PINHOLE 100 75 0 0 50 37\n"  # the second, of no image, is nonsense
    (tmp_path / "cameras.txt").write_text(cameras, encoding="utf-8-sig")
    _, images = read_model(tmp_path)
    assert [(image.id, image.name, image.world_to_camera[0, 3]) for image in images] == [
        (0, "a b.png", 0),
        (1, "2.png", 1),
        (2, "3 4.png", 2),
    ]
    (tmp_path / "cameras.txt").write_text(cameras.replace("90 80", "0 80"))
    with pytest.raises(InputError, match="camera 1 is 100x75 with parameters"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", ["cameras", "images"])
def test_damaged_models_are_refused(turned: Prediction, tmp_path: Path, name: str) -> None:
    export(turned, tmp_path, "colmap", export_kwargs={"colmap": {"flat": True, "text": True}})
    path = tmp_path / f"{name}.bin"
    whole = path.read_bytes()
    for length in (0, 9, len(whole) // 2 if name == "cameras" else 60, 70):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cannot be read"):
            read_model(tmp_path)
    path.write_bytes(whole[:12] + b"\xff" * 8 + whole[20:])
    with pytest.raises(InputError, match="cannot be read"):
        read_model(tmp_path)
    path.unlink()
    text = tmp_path / f"{name}.txt"
    for damage in (("1 ", "x "), ("160.0", "nan") if name == "cameras" else (" 1 left/a.jpg", " 9 left/a.jpg")):
        original = text.read_text()
        text.write_text(original.replace(*damage))
        with pytest.raises(InputError, match="cannot be read"):
            read_model(tmp_path)
        text.write_text(original)
    text.unlink()
    with pytest.raises(InputError, match="no COLMAP model"):
        read_model(tmp_path)


def test_a_name_that_leaves_the_image_folder_is_refused(turned: Prediction, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    export(turned, tmp_path, "colmap", export_kwargs={"colmap": {"text": True}})
    listing = tmp_path / "sparse/0/images.txt"
    listing.write_text(listing.read_text().replace("left/a.jpg", "../../secret.jpg"))
    (tmp_path / "sparse/0/images.bin").unlink()
    with pytest.raises(InputError, match=r"'../../secret.jpg': names must stay"):
        open_colmap(tmp_path, undistort=True)
