# SPDX-License-Identifier: Apache-2.0
"""Every kind of model times every format: what is accepted beforehand can be exported afterwards, and nothing else."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from da3_core.errors import InputError
from da3_core.export import EXPORTERS, check_request, export
from da3_core.model.presets import PRESETS
from da3_core.prediction import Prediction

ALWAYS = {"mini_npz", "npz", "depth_vis", "depth_png", "depth_exr"}
WITH_CAMERAS = ALWAYS | {"glb", "ply", "html", "mesh"}
WITH_POSES = WITH_CAMERAS | {"tum", "kitti", "nerfstudio", "colmap"}
WITH_GAUSSIANS = WITH_POSES | {"gs_ply", "gs_video"}


def first_view(prediction: Prediction) -> Prediction:
    arrays = ("depth", "conf", "sky", "extrinsics", "intrinsics", "processed_images", "original_sizes")
    return dataclasses.replace(prediction, gaussians=None, **{name: getattr(prediction, name)[:1] for name in arrays})


def predicted_by(preset: str, prediction: Prediction, *, intrinsics: bool, features: bool) -> Prediction:
    """What the model of this preset knows of the scene, Gaussians asked for."""
    model = PRESETS[preset]
    return dataclasses.replace(
        prediction,
        conf=prediction.conf if model.has_poses else None,
        sky=prediction.sky if model.kind != "any-view" else None,
        extrinsics=prediction.extrinsics if model.has_poses else None,
        intrinsics=prediction.intrinsics if model.has_poses or intrinsics else None,
        gaussians=prediction.gaussians if model.has_gaussians else None,
        aux=prediction.aux if features else {},
        scale_factor=2.5 if model.kind == "nested" else None,
    )


@pytest.mark.parametrize(
    ("preset", "views", "intrinsics", "features", "expected"),
    [
        ("da3-small", 3, False, False, WITH_POSES),
        ("da3-large-1.1", 3, False, True, WITH_POSES | {"feat_vis"}),
        ("da3-giant", 3, False, True, WITH_GAUSSIANS | {"feat_vis"}),
        ("da3nested-giant-large-1.1", 3, True, False, WITH_GAUSSIANS),
        ("da3mono-large", 3, True, True, ALWAYS | {"feat_vis"}),
        ("da3metric-large", 3, True, False, ALWAYS),
        ("da3metric-large", 1, True, False, WITH_CAMERAS),
        ("da3metric-large", 1, False, False, ALWAYS),
    ],
)
def test_kind_times_format(
    prediction: Prediction,
    tmp_path: Path,
    preset: str,
    views: int,
    intrinsics: bool,
    features: bool,
    expected: set[str],
) -> None:
    scene = prediction if views == 3 else first_view(prediction)
    known = predicted_by(preset, scene, intrinsics=intrinsics, features=features)
    kwargs = {"gs_video": {"trj_mode": "original"}}
    for name in EXPORTERS:
        request = {"views": views, "intrinsics_known": intrinsics, "infer_gs": True, "export_kwargs": kwargs}
        request["export_feat_layers"] = [5] if features else []
        if name in expected:
            assert check_request(name, PRESETS[preset], **request) == (name,)
            files = export(known, tmp_path, name, export_kwargs=kwargs)[name]
            assert all(path.stat().st_size for path in files)
            told = [path.relative_to(tmp_path).match(pattern) for path in files for pattern in EXPORTERS[name].files]
            assert sum(told) == len(files)
            continue
        with pytest.raises(InputError) as refusal:
            check_request(name, PRESETS[preset], **request)
        assert str(refusal.value).startswith(f"{preset} cannot be exported as {name!r}, which needs ")
        assert "\n" not in str(refusal.value)
        with pytest.raises(InputError, match=f"this prediction cannot be exported as {name!r}"):
            export(known, tmp_path, name)


def test_checking_a_request_loads_no_heavy_package() -> None:
    code = (
        "import sys; from da3_core.export import EXPORTERS, check_request; from da3_core.model.presets import PRESETS;"
        "check_request('-'.join(EXPORTERS), PRESETS['da3-giant'], views=2, infer_gs=True, export_feat_layers=[1]);"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "trimesh", "cv2", "av", "PIL", "tqdm"} & set(loaded)
