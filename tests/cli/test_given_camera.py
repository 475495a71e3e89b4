# SPDX-License-Identifier: Apache-2.0
"""Intrinsics that are given on the command line: by a file, a focal length, an angle or EXIF."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from da3_core.cli import app
from da3_core.errors import InputError, OptionError
from da3_core.options import CameraOptions
from da3_core.sources.given_camera import GivenCamera, given_camera

WIDTH, HEIGHT = 400, 300
CENTRED = [[500, 0, 200], [0, 500, 150], [0, 0, 1]]
YAML = """image_width: 800
image_height: 600
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [1000, 0, 399.5, 0, 1000, 299.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [DISTORTION, 0, 0, 0, 0]}
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Lies on its side; 28 mm on full frame."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 28
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=exif)
    return path


def camera(photo: Path, *, apply_exif: bool = False, **options: object) -> np.ndarray:
    return GivenCamera(CameraOptions(**options), apply_exif=apply_exif).of_files([photo])[0]


def test_nothing_given_is_no_camera() -> None:
    assert given_camera(CameraOptions()) is None


def test_a_focal_length_and_an_angle(photo: Path) -> None:
    np.testing.assert_allclose(camera(photo, focal_px=500.0), CENTRED)
    np.testing.assert_allclose(camera(photo, hfov_deg=np.rad2deg(2 * np.arctan(200 / 500))), CENTRED)
    upright = camera(photo, focal_px=500.0, apply_exif=True)
    np.testing.assert_allclose(upright, [[500, 0, 150], [0, 500, 200], [0, 0, 1]])


def test_exif_by_the_full_frame_equivalent_or_the_pitch_of_the_sensor(photo: Path, tmp_path: Path) -> None:
    np.testing.assert_allclose(camera(photo, focal_from_exif=True)[0, 0], 28 / np.hypot(36, 24) * 500, rtol=1e-5)
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x920A: 5.0, 0xA20E: 4000.0, 0xA210: 3, 0xA002: 2 * WIDTH})  # 5 mm at 400 pixels/mm
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "halved.jpg", exif=exif)
    np.testing.assert_allclose(camera(tmp_path / "halved.jpg", focal_from_exif=True)[0, 0], 1000)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "plain.png")
    with pytest.raises(OptionError, match=r"EXIF tags of .*plain.png tell no focal length"):
        camera(tmp_path / "plain.png", focal_from_exif=True)


def test_a_matrix_for_all_images_or_for_each(photo: Path, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "K.txt", CENTRED)
    np.testing.assert_allclose(camera(photo, intrinsics_file=str(tmp_path / "K.txt")), CENTRED)
    np.savetxt(tmp_path / "both.txt", np.vstack([CENTRED, [[1000, 0, 200], [0, 1000, 150], [0, 0, 1]]]))
    both = GivenCamera(CameraOptions(intrinsics_file=str(tmp_path / "both.txt")))
    np.testing.assert_allclose(both.of_files([photo, photo])[:, 0, 0], [500, 1000])
    with pytest.raises(InputError, match="holds 2 cameras for 3 images"):
        both.of_files([photo] * 3)
    np.savetxt(tmp_path / "far.txt", [[500, 0, 2000], [0, 500, 150], [0, 0, 1]])
    with pytest.raises(InputError, match=r"no camera of 400x300 pixels: .*far outside"):
        camera(photo, intrinsics_file=str(tmp_path / "far.txt"))
    (tmp_path / "words.txt").write_text("a b c")
    with pytest.raises(InputError, match="cannot read the camera matrix"):
        camera(photo, intrinsics_file=str(tmp_path / "words.txt"))


def test_a_calibration_of_ros_is_carried_over_to_the_size_of_the_image(photo: Path, tmp_path: Path) -> None:
    file = tmp_path / "camera.yaml"
    file.write_text(YAML.replace("DISTORTION", "0.0"))
    np.testing.assert_allclose(camera(photo, intrinsics_file=str(file)), CENTRED)
    file.write_text(YAML.replace("DISTORTION", "-0.2"))
    with pytest.raises(InputError, match="a lens with distortion"):
        camera(photo, intrinsics_file=str(file))
    assert GivenCamera(CameraOptions(intrinsics_file=str(file))).of_size((HEIGHT, WIDTH)).rectify is not None
    file.write_text("camera_matrix: 3")
    with pytest.raises(InputError, match="no camera_info file of ROS"):
        camera(photo, intrinsics_file=str(file))


def test_two_ways_at_once_are_refused() -> None:
    with pytest.raises(InputError, match="focal_px, hfov_deg and focal_from_exif all tell the camera"):
        CameraOptions(focal_px=500.0, hfov_deg=60.0)


def test_da3_intrinsics_writes_what_is_given(photo: Path, tmp_path: Path) -> None:
    arguments = ["intrinsics", "--image", str(photo), "--output", str(tmp_path / "K.txt")]
    result = CliRunner().invoke(app, [*arguments, "--focal-px", "500"])
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(np.loadtxt(tmp_path / "K.txt"), CENTRED)
    contradiction = CliRunner().invoke(app, [*arguments, "--hfov", "60", "--focal-from-exif"])
    assert contradiction.exit_code == 2
    assert "--hfov and --focal-from-exif all tell the camera" in contradiction.output


def test_a_metric_model_gives_metres_and_a_cloud_of_one_photograph(photo: Path, tmp_path: Path) -> None:
    arguments = ["image", str(photo), "--model-dir", "untrained:da3metric-large", "--process-res", "56"]
    written = ["--export-dir", str(tmp_path / "out"), "--export-format", "mini_npz-glb", "--focal-from-exif"]
    result = CliRunner().invoke(app, [*arguments, *written])
    assert result.exit_code == 0, result.output
    stored = np.load(tmp_path / "out/exports/mini_npz/results.npz")
    assert stored["is_metric"] == 1
    assert stored["intrinsics_source"].tolist() == ["known"]
    assert (tmp_path / "out/scene.glb").stat().st_size > 0
