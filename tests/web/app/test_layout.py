# SPDX-License-Identifier: Apache-2.0
"""The page offers what its model can do, with the defaults of the usage guide."""

from pathlib import Path
from typing import Any

import pytest

from da3_core.model.presets import find_preset
from da3_core.options import LEAST_CONFIDENT, ModelOptions
from da3_core.web.app.examples import ExampleCache
from da3_core.web.app.uploads import VisitorUploads
from da3_core.web.app.visits import Visits
from da3_core.web.model_runner import ModelRunner
from da3_core.web.uploads import UploadLimits


def controls(model: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Properties of the components by label, for a model that is never loaded."""
    pytest.importorskip("gradio", reason="the web app needs `pip install gradio`")
    from da3_core.web.app.handlers import Handlers
    from da3_core.web.app.layout import build_page

    handlers = Handlers(
        runner=ModelRunner(ModelOptions(f"untrained:{model}", device="cpu")),
        process_res=None,
        visits=Visits(folder, 3600),
        uploads=VisitorUploads(folder / "uploads", UploadLimits(1, 1, 1), 3600),
        gallery=folder,
        examples=[],
        cache=ExampleCache(folder, model, None),
        models={f"untrained:{model}": find_preset(model)},
    )
    config = build_page(handlers, find_preset(model), 3600).get_config_file()
    return {
        str(component["props"].get("label") or component["props"].get("value")): component["props"]
        for component in config["components"]
    }


def test_defaults_are_those_of_the_usage_guide(tmp_path: Path) -> None:
    shown = controls("da3-small", tmp_path)
    defaults = {
        "Sampling FPS": 10,
        "Image Processing Method": "low_res",
        "Infer 3D Gaussian Splatting": False,
        "Trajectory": "smooth",
        "Quality": "low",
        "Reference View Strategy": "saddle_balanced",
        "Show Camera": True,
        "Filter Black Background": False,
        "Filter White Background": False,
        "Filter Percentage": LEAST_CONFIDENT,  # as of every cloud
        "Max Points (thousand)": 1000,
    }
    assert {label: shown[label]["value"] for label in defaults} == defaults
    assert [choice for choice, _ in shown["Trajectory"]["choices"]] == ["smooth", "extend"]
    assert [choice for choice, _ in shown["Quality"]["choices"]] == ["low", "medium", "high"]
    assert len(shown["Reference View Strategy"]["choices"]) == 4
    ranges = {
        label: (shown[label]["minimum"], shown[label]["maximum"]) for label in ("Sampling FPS", "Filter Percentage")
    }
    assert ranges == {"Sampling FPS": (0.1, 60), "Filter Percentage": (0, 100)}
    assert {"Point Cloud & Cameras", "Depth", "3DGS Rendered Novel Views"} <= shown.keys()
    assert {
        "Upload Images",
        "Preview",
        "Select View",
        "Reconstruct",
        "Cancel",
        "Clear",
        "◀ Previous",
        "Next ▶",
    } <= shown.keys()


@pytest.mark.parametrize(
    ("model", "gaussians", "needs_camera"),
    [("da3-small", False, False), ("da3-giant", True, False), ("da3metric-large", False, True)],
)
def test_only_what_the_model_can_do_is_offered(model: str, gaussians: bool, needs_camera: bool, tmp_path: Path) -> None:
    shown = controls(model, tmp_path)
    assert shown["Infer 3D Gaussian Splatting"]["visible"] == gaussians
    assert shown["Gaussians"]["visible"] == gaussians
    assert shown["The camera, if it is known"]["open"] == needs_camera
    assert {"Focal Length", "Angle of View", "Focal Length from EXIF", "Camera Matrix"} <= shown.keys()
