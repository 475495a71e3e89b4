# SPDX-License-Identifier: Apache-2.0
"""Which files are found as input, and in which order."""

from pathlib import Path

import pytest
from PIL import Image

from da3_core.errors import InputError
from da3_core.preprocessing import decode
from da3_core.sources.detect import detect
from da3_core.sources.images import find_images, open_folder, open_image, parse_extensions


def test_images_of_every_letter_case_come_in_natural_order_without_hidden_files(photos: Path) -> None:
    assert [path.name for path in find_images(photos)] == ["1.png", "2.JPG", "10.webp"]
    assert [path.name for path in find_images(photos, parse_extensions(" .webp, PNG"))] == ["1.png", "10.webp"]


def test_numbers_within_names_count_before_letters_after_them(tmp_path: Path) -> None:
    names = ["a2b10.png", "a2b9.png", "a10.png", "A1.png", "b.png", "7.png", "a.png"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == [
        "7.png", "a.png", "A1.png", "a2b9.png", "a2b10.png", "a10.png", "b.png",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["png,exe", "", " , "])
def test_extensions_that_no_reader_knows_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="list some of png,jpg"):
        parse_extensions(text)


def test_the_kind_of_input_is_told_by_names(photos: Path, tmp_path: Path) -> None:
    reconstruction = tmp_path / "scan"
    (reconstruction / "images").mkdir(parents=True)
    (reconstruction / "sparse").mkdir()
    (reconstruction / "cover.jpg").touch()
    (tmp_path / "clip.MP4").touch()
    (tmp_path / "empty").mkdir()
    kinds = {
        photos: "images",
        photos / "2.JPG": "image",
        photos / "notes.txt": None,
        reconstruction: "colmap",
        reconstruction / "images": None,
        tmp_path / "clip.MP4": "video",
        tmp_path / "empty": None,
        tmp_path / "missing.png": None,
    }
    assert {path: detect(path) for path in kinds} == kinds


def test_bad_files_are_named_before_anything_else_happens(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"notes.txt \(not an image"):
        open_image(photos / "notes.txt")
    with pytest.raises(InputError, match=r"missing.png \(no such file"):
        open_image(tmp_path / "missing.png")
    (photos / "3.png").write_bytes(b"not a image")
    with pytest.raises(InputError, match=r"3.png \(not an image"):
        open_folder(photos)
    with pytest.raises(InputError, match="no images in"):
        open_folder(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        open_folder(photos / "1.png")


def test_image_of_too_many_pixels_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(InputError, match=r"wall.png has too many pixels \(.*400000000 pixels.*: make it smaller"):
        open_image(path)
    with pytest.raises(InputError, match=r"it has too many pixels .*; make it smaller"):
        decode(path)


@pytest.mark.parametrize(
    ("names", "listed", "expected"),
    [
        (["1403636579763555584.png", "1403636579813555456.png"], None, [1403636579763555584, 1403636579813555456]),
        (["1305031102.175304.png", "1305031102.211214.png"], None, [1305031102175304000, 1305031102211214000]),
        (["000000.png", "000001.png"], "0.000000e+00\n1.038622e-01\n", [0, 103862200]),
        (["000000.png", "000001.png"], "0\n", None),
        (["000000.png", "000001.png"], "0\nsoon\n", None),
        (["000000.png", "1403636579763555584.png"], None, None),
    ],
)
def test_times_of_a_folder_are_in_names_or_beside(
    tmp_path: Path, names: list[str], listed: str | None, expected: list[int] | None
) -> None:
    folder = tmp_path / "image_0"
    folder.mkdir()
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name)
    if listed is not None:
        (tmp_path / "times.txt").write_text(listed)
    stamps_ns = open_folder(folder).read(lambda: tmp_path, lambda n: None).stamps_ns
    assert (None if stamps_ns is None else stamps_ns.tolist()) == expected
