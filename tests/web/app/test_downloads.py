# SPDX-License-Identifier: Apache-2.0
"""The files to take home, read by those who will read them."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from da3_core.prediction import Prediction
from da3_core.web.app.clouds import CloudOptions, write_cloud
from da3_core.web.app.downloads import write_downloads


def test_intrinsics_are_in_pixels_of_the_pictures_as_given(prediction: Prediction, tmp_path: Path) -> None:
    path = write_downloads(prediction, 0, tmp_path / "result", CloudOptions())["K.txt"]
    expected = [[30, 0, 28.5], [0, 20, 19], [0, 0, 1]]
    np.testing.assert_allclose(np.loadtxt(path).reshape(2, 3, 3), [expected, expected], atol=1e-6)
    assert path.read_text().startswith("# view 0, 90 x 40 pixels\n30.000000 0.000000 28.500000\n")


def test_colmap_opens_the_archive(prediction: Prediction, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    path = write_downloads(prediction, 0, tmp_path / "result", CloudOptions())["COLMAP"]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "colmap")
    reconstruction = pycolmap.Reconstruction(tmp_path / "colmap/sparse/0")
    assert sorted(image.name for image in reconstruction.images.values()) == ["a.png", "b.png"]
    assert sorted(path.name for path in (tmp_path / "colmap/images").iterdir()) == ["a.png", "b.png"]
    assert not (tmp_path / "result/colmap").exists()


def test_arrays_are_written_once_and_tell_nothing_of_the_server(prediction: Prediction, tmp_path: Path) -> None:
    first = write_downloads(prediction, 0, tmp_path / "result", CloudOptions())["NPZ"]
    with np.load(first, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["depth"], prediction.depth)
        assert arrays["image_names"].tolist() == ["a.png", "b.png"]
    before = first.stat().st_mtime_ns
    second = write_downloads(prediction, 0, tmp_path / "result", CloudOptions(filter_percentage=80))["NPZ"]
    assert (second, second.stat().st_mtime_ns) == (first, before)


def test_the_cloud_that_is_shown_is_the_one_to_take(prediction: Prediction, tmp_path: Path) -> None:
    shown = write_cloud(prediction, 0, tmp_path / "result", CloudOptions())
    files = write_downloads(prediction, 0, tmp_path / "result", CloudOptions())
    assert files["GLB"] == shown
    assert files["Gaussians"] is None
