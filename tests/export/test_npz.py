# SPDX-License-Identifier: Apache-2.0
"""`npz` and `mini_npz`, read back by NumPy without pickle."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from da3_core.export import export
from da3_core.prediction import Prediction


@pytest.mark.parametrize("name", ["npz", "mini_npz"])
def test_arrays_come_back_exactly(prediction: Prediction, tmp_path: Path, name: str) -> None:
    assert prediction.extrinsics is not None
    rows = dataclasses.replace(prediction, extrinsics=prediction.extrinsics[:, :3])
    (path,) = export(rows, tmp_path, name)[name]
    assert path == tmp_path / "exports" / name / "results.npz"
    with np.load(path, allow_pickle=False) as data:
        for key in ("depth", "conf", "sky", "intrinsics", "original_sizes"):
            np.testing.assert_array_equal(data[key], getattr(prediction, key), strict=True)
        np.testing.assert_array_equal(data["extrinsics"], prediction.extrinsics, strict=True)
        np.testing.assert_array_equal(data["exts"], data["extrinsics"], strict=True)
        np.testing.assert_array_equal(data["ixts"], data["intrinsics"], strict=True)
        assert (int(data["is_metric"]), float(data["scale_factor"])) == (1, 2.5)
        assert tuple(data["image_names"]) == prediction.image_names
        if name == "npz":
            np.testing.assert_array_equal(data["image"], prediction.processed_images, strict=True)
        else:
            assert "image" not in data


@pytest.mark.parametrize("name", ["npz", "mini_npz"])
def test_what_a_monocular_model_does_not_know_is_absent(monocular: Prediction, tmp_path: Path, name: str) -> None:
    (path,) = export(monocular, tmp_path, name)[name]
    with np.load(path, allow_pickle=False) as data:
        assert {"depth", "sky", "is_metric", "scale_factor", "original_sizes"} == set(data) - {"image"}
        assert np.isnan(data["scale_factor"])
