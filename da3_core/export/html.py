# SPDX-License-Identifier: Apache-2.0
"""`html`: the point cloud with the cameras in one file that every browser opens without internet, `scene.html`."""

from dataclasses import asdict, dataclass
from pathlib import Path

from da3_core.export import glb
from da3_core.export.maps import each_map
from da3_core.formats.gltf import glb_bytes
from da3_core.formats.html_scene import pack_scene
from da3_core.options import option, same_option
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    num_max_points: int = same_option(glb.Options, "num_max_points")
    conf_thresh_percentile: float = same_option(glb.Options, "conf_thresh_percentile")
    sky: glb.Sky = same_option(glb.Options, "sky")
    show_cameras: bool = same_option(glb.Options, "show_cameras")
    title: str = option("Depth Anything 3", "What stands above the scene.")


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    chosen = {name: value for name, value in asdict(options).items() if name != "title"}
    for one in each_map(prediction, folder):
        meshes, extras = glb.scene_of(one.prediction, glb.Options(**chosen))
        one.folder.mkdir(parents=True, exist_ok=True)
        (one.folder / "scene.html").write_bytes(pack_scene(glb_bytes(meshes, extras), options.title))
