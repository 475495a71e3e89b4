# SPDX-License-Identifier: Apache-2.0
"""`feat_vis`: principal components worked out by hand, images and videos read back by OpenCV."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.export import check_request, export
from da3_core.export.feat_vis import feature_colors
from da3_core.export.video import write_video
from da3_core.model.presets import PRESETS
from da3_core.prediction import Prediction


def test_colours_are_the_three_widest_directions_on_one_scale_for_all_views() -> None:
    red, green, blue = np.random.default_rng(3).permuted(np.tile(np.linspace(0, 1, 200), (3, 1)), axis=1)
    direction = np.eye(6)[[4, 1, 5]] * np.array([[10], [-5], [2]])  # the second one points the other way
    features = (np.stack([red, green, blue], axis=1) @ direction + 100).reshape(4, 5, 10, 6).astype(np.float32)
    colors = feature_colors(features).reshape(-1, 3).astype(float)
    for channel, value in enumerate((red, 1 - green, blue)):
        expected = np.clip((value - 0.1) / 0.8, 0, 1) * 255  # 10 % to 90 % of all tokens
        assert np.abs(colors[:, channel] - expected).max() < 30  # finite samples correlate a little
        assert np.corrcoef(colors[:, channel], expected)[0, 1] > 0.99


def test_broken_features_do_not_break_colours() -> None:
    features = np.random.default_rng(0).random((1, 4, 6, 5)).astype(np.float32)
    features[0, 0, 0, 0], features[0, 1, 1, 1] = np.nan, np.inf
    assert feature_colors(features).shape == (1, 4, 6, 3)
    assert len(np.unique(feature_colors(np.ones_like(features)).reshape(-1, 3), axis=0)) == 1


def test_images_and_videos(prediction: Prediction, tmp_path: Path) -> None:
    files = export(prediction, tmp_path, "feat_vis", feat_vis_fps=7)["feat_vis"]
    root = tmp_path / "feat_vis"
    assert set(files) == {root / f"feat_layer_{k}/{i:06d}.jpg" for k in (5, 11) for i in range(3)} | {
        root / f"feat_layer_{k}.mp4" for k in (5, 11)
    }
    height, width = prediction.depth.shape[1:]
    image = cv2.imread(str(root / "feat_layer_5/000001.jpg"))[:, :, ::-1].astype(float)
    assert image.shape == (height, 2 * width, 3)
    colors = feature_colors(prediction.aux["feat_layer_5"])[1]
    centres = image[7::14, width + 7 :: 14]  # two by three patches of 14 pixels
    assert np.abs(centres - colors).max() < 25

    video = cv2.VideoCapture(str(root / "feat_layer_5.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == 7
    frames = [video.read()[1] for _ in range(3)]
    assert not video.read()[0]
    assert frames[0].shape == (height, 2 * width, 3)
    assert np.abs(frames[1].astype(float).mean() - image.mean()) < 5


def test_an_odd_size_is_made_even(tmp_path: Path) -> None:
    frames = [np.full((31, 45, 3), (level, 40, 90), np.uint8) for level in (0, 200)]
    write_video(tmp_path / "a b/c.mp4", frames, 10)
    video = cv2.VideoCapture(str(tmp_path / "a b/c.mp4"))
    for frame in frames:
        decoded = video.read()[1][:, :, ::-1].astype(int)
        assert decoded.shape == (32, 46, 3)
        assert np.abs(decoded - frame[0, 0]).max() < 12


def test_features_must_be_asked_for(prediction: Prediction, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name the layers in export_feat_layers"):
        check_request("feat_vis", PRESETS["da3-small"], views=1)
    assert check_request("feat_vis", PRESETS["da3mono-large"], views=1, export_feat_layers=[5]) == ("feat_vis",)
    with pytest.raises(InputError, match="name the layers in export_feat_layers"):
        export(dataclasses.replace(prediction, aux={}), tmp_path, "feat_vis")
