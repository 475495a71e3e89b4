# SPDX-License-Identifier: Apache-2.0
"""Many pixels in few bytes: every face refuses them by the head of the file, before anything is decoded."""

import io
import resource
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import PIL.Image
import pytest

from da3_core.errors import InputError
from da3_core.options import CameraOptions
from da3_core.preprocessing import decode
from da3_core.ros_data.images import compressed_size, compressed_to_rgb
from da3_core.sources.given_camera import GivenCamera
from da3_core.sources.images import open_folder
from da3_core.storage.allowed_folders import AllowedFolders
from da3_core.web.app.images import take_images, thumbnails


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """17 PNG files of 20 kB with 169 megapixels each: 8.6 GB of RGB."""
    folder, content = tmp_path_factory.mktemp("bombs"), io.BytesIO()
    PIL.Image.new("1", (13_000, 13_000)).save(content, "PNG")
    assert len(content.getvalue()) < 30_000
    for number in range(17):
        (folder / f"{number}.png").write_bytes(content.getvalue())
    return folder


def message(file: Path) -> SimpleNamespace:
    return SimpleNamespace(format="png", data=file.read_bytes())


FACES: dict[str, Callable[[Path], object]] = {
    "command, the folder": lambda file: open_folder(file.parent),
    "command, the pixels": decode,
    "command, the tags": lambda file: GivenCamera(CameraOptions(hfov_deg=60)).of_files([file]),
    "backend": lambda file: AllowedFolders.of_backend([file.parent]).input_image(str(file)),
    "app, the upload": lambda file: take_images([file], file.parent / "taken"),
    "app, the preview": lambda file: thumbnails([file]),
    "node, the size": lambda file: compressed_size(message(file)),
    "node and bags, the pixels": lambda file: compressed_to_rgb(message(file)),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("face", FACES)
def test_nobody_decodes_more_pixels_than_any_camera_has(bombs: Path, face: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for file in bombs.glob("*.png"):
        with pytest.raises(InputError, match=r"pixels|cannot be read"):
            FACES[face](file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
