# SPDX-License-Identifier: Apache-2.0
"""Sizes, kernels, pixel values and intrinsics of the images that reach the network."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from da3_core.errors import InputError
from da3_core.preprocessing import decode, normalise, preprocess

METHODS = ("upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "sizes"),
    [
        (1600, 1200, [(378, 504), (378, 504), (504, 672), (504, 672)]),
        (1920, 1080, [(280, 504), (280, 504), (504, 896), (504, 896)]),
        (504, 377, [(378, 504), (364, 504), (504, 672), (504, 672)]),
        (504, 371, [(378, 504), (364, 504), (504, 686), (504, 672)]),  # remainder 7 goes up
        (1008, 573, [(280, 504), (280, 504), (504, 882), (504, 882)]),  # 286.5 rounds to the even 286
    ],
)
def test_sizes_and_intrinsics(width: int, height: int, sizes: list[tuple[int, int]]) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    for method, (new_height, new_width) in zip(METHODS, sizes, strict=True):
        batch = preprocess([image], 504, method)
        assert batch.tensor.shape == (1, 1, 3, new_height, new_width)
        assert batch.images.shape == (1, new_height, new_width, 3)
        assert batch.original_sizes.tolist() == [[height, width]]
        # Before the crop the whole image spans the uncropped size; the crop is centred.
        scale = 504 / (max(width, height) if method.startswith("upper") else min(width, height))
        uncropped = np.array([round(width * scale), round(height * scale)])
        if method.endswith("resize"):
            uncropped = np.array([new_width, new_height])
        offset = (uncropped - (new_width, new_height)) // 2
        expected = np.diag([uncropped[0] / width, uncropped[1] / height, 1.0])
        expected[:2, 2] = -offset
        np.testing.assert_allclose(batch.processed_from_original[0], expected, atol=1e-12)


def test_intrinsics_by_hand() -> None:
    """1600 x 1200 with skew: rows times 504/1600 = 378/1200; a crop moves only the principal point."""
    intrinsics = np.array([[1000, 10, 800], [0, 1100, 600], [0, 0, 1.0]])
    resized = preprocess([np.zeros((1200, 1600, 3), np.uint8)], 504).processed_from_original[0] @ intrinsics
    np.testing.assert_allclose(resized, [[315, 3.15, 252], [0, 346.5, 189], [0, 0, 1]])
    cropped = preprocess([np.zeros((377, 504, 3), np.uint8)], 504, "upper_bound_crop")
    np.testing.assert_allclose(
        cropped.processed_from_original[0] @ intrinsics, [[1000, 10, 800], [0, 1100, 594], [0, 0, 1]]
    )


@pytest.mark.parametrize(
    ("height", "width", "steps"),
    [
        (1200, 1600, [(378, 504, cv2.INTER_AREA)]),
        (60, 80, [(378, 504, cv2.INTER_CUBIC)]),
        (1080, 1920, [(284, 504, cv2.INTER_AREA), (280, 504, cv2.INTER_AREA)]),
        (377, 504, [(378, 504, cv2.INTER_CUBIC)]),  # one side grows by a pixel
        (754, 1008, [(377, 504, cv2.INTER_AREA), (378, 504, cv2.INTER_CUBIC)]),
    ],
)
def test_kernels(height: int, width: int, steps: list[tuple[int, int, int]]) -> None:
    image = expected = noise(height, width)
    for new_height, new_width, kernel in steps:
        expected = cv2.resize(expected, (new_width, new_height), interpolation=kernel)
    batch = preprocess([image], 504)
    np.testing.assert_array_equal(batch.images[0], expected)
    reference = (expected.astype(np.float32) / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32(
        [0.229, 0.224, 0.225]
    )
    np.testing.assert_allclose(batch.tensor[0, 0].permute(1, 2, 0), reference, atol=1e-6)


def test_all_grey_levels_survive_and_the_caller_keeps_his_array() -> None:
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16), 14, axis=0)[: 14 * 14].repeat(14, axis=1)
    image = np.stack([image] * 3, -1)
    batch = preprocess([image], image.shape[1])
    np.testing.assert_array_equal(batch.images[0], image)
    assert not np.shares_memory(batch.images, image)
    assert batch.tensor.is_contiguous()
    assert normalise(np.full((1, 14, 14, 3), 255, np.uint8))[0, 0, 0, 0, 0].item() == pytest.approx(0.515 / 0.229)


def test_mixed_orientations_are_cropped_to_the_common_square(caplog: pytest.LogCaptureFixture) -> None:
    landscape, portrait = noise(480, 640), noise(640, 480, 1)
    with caplog.at_level(logging.WARNING):
        batch = preprocess([landscape, portrait])
    assert batch.images.shape == (2, 378, 378, 3)
    assert "378 x 378" in caplog.text
    s = 504 / 640
    np.testing.assert_allclose(batch.processed_from_original[0], [[s, 0, -63], [0, s, 0], [0, 0, 1]])
    np.testing.assert_allclose(batch.processed_from_original[1], [[s, 0, 0], [0, s, -63], [0, 0, 1]])
    whole = cv2.resize(landscape, (504, 378), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(batch.images[0], whole[:, 63:441])


def test_every_kind_of_input_gives_the_same_pixels(tmp_path: Path) -> None:
    rgb = noise(28, 42)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    kinds = [
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        Image.fromarray(rgb),
        Image.open(tmp_path / "a.png"),
        rgb,
        rgb[::-1][::-1],
        np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)]),  # transparent: dropped, not composited
        Image.fromarray(np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)])),
        rgb / 255,
        (rgb / 255).astype(np.float32),
        rgb.astype(np.uint16) * 257,
        torch.from_numpy(rgb),
        torch.from_numpy(rgb).permute(2, 0, 1) / 255,
    ]
    batch = preprocess(tuple(kinds), 42)
    for image in batch.images:
        np.testing.assert_array_equal(image, rgb)
    assert batch.names is None, "arrays have no name"
    assert preprocess([*kinds[:2], kinds[3]], 42).names == (str(tmp_path / "a.png"),) * 3
    np.testing.assert_array_equal(preprocess(np.stack([rgb, rgb]), 42).images, [rgb, rgb])


def test_unusual_picture_modes(tmp_path: Path) -> None:
    grey = noise(28, 42)[..., 0]
    three = np.dstack([grey] * 3)
    np.testing.assert_array_equal(decode(grey), three)
    np.testing.assert_array_equal(decode(grey[..., None]), three)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    np.testing.assert_array_equal(decode(tmp_path / "16.png"), three)
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "float.tiff")
    np.testing.assert_array_equal(decode(tmp_path / "float.tiff"), three)
    Image.fromarray(grey).convert("LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(decode(tmp_path / "la.png"), three)
    Image.fromarray(grey // 64).convert("P").save(tmp_path / "palette.png")
    np.testing.assert_array_equal(decode(tmp_path / "palette.png"), three // 64)
    cmyk = Image.new("CMYK", (20, 20), (0, 255, 255, 0))
    assert decode(cmyk)[0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_applied_only_on_request(tmp_path: Path) -> None:
    rgb = noise(28, 42)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)
    assert preprocess([tmp_path / "a.png"], 42).images.shape == (1, 28, 42, 3)
    upright = preprocess([tmp_path / "a.png"], 42, apply_exif=True)
    np.testing.assert_array_equal(upright.images[0], np.rot90(rgb, -1))
    assert upright.original_sizes.tolist() == [[42, 28]]


def test_order_is_kept_over_many_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(40)]
    for i, path in enumerate(paths):
        size = 400 if i < 4 else 28  # the first ones take longest
        Image.new("RGB", (size, size), (i, 0, 0)).save(path)
    assert preprocess(paths, 28).images[:, 0, 0, 0].tolist() == list(range(40))


def test_a_bad_file_is_named_with_its_index(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.fromarray(noise(300, 300)).save(good)
    (tmp_path / "text.png").write_text("not a image")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:5000])
    for name, reason in [
        ("absent.png", "no such file"),
        ("text.png", "known format"),
        ("cut.png", "cannot be decoded"),
    ]:
        with pytest.raises(InputError, match=rf"image 1 \(.*{name}\): .*{reason}"):
            preprocess([good, tmp_path / name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "no images"),
        (("a.png",), r"single str.*\[image\]"),
        ((np.zeros((28, 28, 3), np.uint8),), r"single ndarray.*\[image\]"),
        ((7,), "image is int"),
        (([7],), "image 0: .*int"),
        (([np.zeros((3, 28, 28), np.uint8)],), r"\(3, 28, 28\).*\(H, W, 3\)"),
        (([np.zeros((28, 28, 3), np.int64)],), "int64.*uint8"),
        (([np.full((28, 28, 3), 255.0)],), "255 to 255"),
        (([np.full((28, 28, 3), np.nan)],), r"nan.*\[0, 1\]"),
        (([np.zeros((0, 28, 3), np.uint8)],), r"\(0, 28, 3\)"),
        (([np.zeros((10, 300, 3), np.uint8)],), "300 x 10.*factor of 20"),
        (([np.zeros((20, 300, 3), np.uint8)], 140, "upper_bound_crop"), "140 x 9, less than one patch"),
        (([np.zeros((20, 300, 3), np.uint8)], 70, "upper_bound_resize"), "70 x 5, less than one patch"),
        (([np.zeros((28, 28, 3), np.uint8)], 13), "process_res is 13"),
        (([np.zeros((28, 28, 3), np.uint8)], 50.5), "process_res is 50.5"),
        (([np.zeros((28, 28, 3), np.uint8)], 504, "stretch"), "'stretch'.*lower_bound_crop"),
    ],
)
def test_refused_in_one_sentence(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        preprocess(*arguments)
