# SPDX-License-Identifier: Apache-2.0
"""Uploads of all kinds become upright files, in order, and none is lost."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from da3_core.errors import InputError
from da3_core.options import CameraOptions
from da3_core.preprocessing import preprocess
from da3_core.sources.given_camera import GivenCamera
from da3_core.web.app import images as app_images
from da3_core.web.app.images import take_frames, take_images, thumbnails

HEIC = Path(__file__).with_name("two_halves.heic")  # 48 x 32, red on the left and blue on the right


def picture(path: Path, color: tuple[int, int, int] = (10, 20, 30), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), color).save(path, **options)
    return path


def test_pictures_of_the_same_name_are_kept_apart_and_in_natural_order(tmp_path: Path) -> None:
    uploads = [
        picture(tmp_path / "x/10.png"),
        picture(tmp_path / "x/2.png"),
        picture(tmp_path / "y/2.png", (200, 0, 0)),
    ]
    uploads += [picture(tmp_path / "z/2_2.png"), picture(tmp_path / "x/3.webp")]
    taken = take_images(uploads, tmp_path / "images")
    assert [path.name for path in taken] == ["2.png", "2_2.png", "2_2_2.png", "3.webp", "10.png"]
    assert taken[1].read_bytes() == uploads[2].read_bytes()
    assert taken[3].read_bytes() == uploads[4].read_bytes()


def test_a_picture_on_its_side_becomes_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif.get_ifd(0x8769).update({0x920A: 5.0, 0xA20E: 4000.0, 0xA210: 3, 0xA002: 120, 0xA003: 80})
    lying = picture(tmp_path / "phone.jpg", exif=exif)
    (taken,) = take_images([lying], tmp_path / "images")
    with Image.open(taken) as image:
        assert image.size == (40, 60)
        assert image.getexif().get(0x0112, 1) == 1
    batches = [preprocess([path], 56, apply_exif=True) for path in (lying, taken)]
    np.testing.assert_array_equal(batches[0].images, batches[1].images)  # as the command sees it
    by_exif = GivenCamera(CameraOptions(focal_from_exif=True), apply_exif=True)
    np.testing.assert_array_equal(by_exif.of_files([lying]), by_exif.of_files([taken]))


def test_heic_becomes_jpeg(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif", reason="HEIC needs `pip install pi-heif`")
    (taken,) = take_images([HEIC], tmp_path / "images")
    assert taken.name == "two_halves.jpg"
    pixels = np.asarray(Image.open(taken))
    assert pixels.shape == (32, 48, 3)
    assert pixels[16, 5].argmax() == 0
    assert pixels[16, 43].argmax() == 2


def test_heic_without_its_reader_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_images, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install pi-heif"):
        take_images([HEIC], tmp_path / "images")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", b"hello", "notes.txt does not look like a image"),
        ("fake.png", b"hello", "fake.png is no image that can be read"),
        ("drawing.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "drawing.png is no image"),
        ("fake.heic", b"hello", "fake.heic is no image that can be read"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        take_images([tmp_path / name], tmp_path / "images")


def test_damage_behind_the_header_shows_at_once(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    for extension in ("png", "jpg", "webp"):
        whole, half = tmp_path / f"whole.{extension}", tmp_path / f"half.{extension}"
        Image.fromarray(noise).save(whole)
        half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(InputError, match=rf"^half\.{extension}"):
            thumbnails(take_images([half], tmp_path / "images"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds at 10 frames per second; frame `i` is of grey level `10 * i`."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(20):
        writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.release()
    return path


def test_frames_begin_with_the_first_and_follow_the_time_stamps(clip: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    files, thinned = take_frames(clip, 2.5, tmp_path, lambda done, total: told.append((done, total)))
    levels = [float(np.asarray(Image.open(path)).mean()) for path in files]
    np.testing.assert_allclose(levels, [0, 40, 80, 120, 160], atol=4)
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert not thinned
    times = json.loads((tmp_path / "input_images/frames.json").read_text())["frames"]
    assert [frame["time_s"] for frame in times] == [0, 0.4, 0.8, 1.2, 1.6]


def test_a_long_video_is_thinned_evenly(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_images, "MAX_FRAMES", 3)
    files, thinned = take_frames(clip, 10, tmp_path, lambda done, total: None)
    levels = [float(np.asarray(Image.open(path)).mean()) for path in files]
    np.testing.assert_allclose(levels, [0, 100, 190], atol=14)
    assert thinned


def test_a_refused_choice_is_called_as_its_control(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^Sampling FPS is 0: give"):
        take_frames(clip, 0, tmp_path, lambda done, total: None)


def test_a_bad_video_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"^bad\.mp4 is not a video"):
        take_frames(tmp_path / "bad.mp4", 1, tmp_path, lambda done, total: None)
