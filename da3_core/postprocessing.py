# SPDX-License-Identifier: Apache-2.0
"""From what the network returns to a `Prediction`, and what cameras change in it, given ones or found by features."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from da3_core.errors import InputError, OptionError
from da3_core.geometry.cameras import camera_centres, invert_rigid, normalise_trajectory, to_homogeneous
from da3_core.geometry.depth_in_metres import METRES_AT_FOCAL
from da3_core.geometry.feature_poses import default_intrinsics, poses_from_features
from da3_core.geometry.similarity import Similarity, align_trajectories
from da3_core.geometry.upsampling import resampled, upsample_guided
from da3_core.prediction import Gaussians, Prediction, of_all_views

if TYPE_CHECKING:
    import torch

    from da3_core.preprocessing import Batch, ImageInput

# Beyond so many times the depth that a fifth of all pixels stays under, a model without a sky head has put the sky.
FARTHEST, NEAR_PERCENTILE = 50, 20
SKY_THRESHOLD = 0.5  # of the raw sky output, which is 0 where the network sees none


log = logging.getLogger(__name__)


def to_prediction(output: Mapping[str, Any], batch: Batch, decoded: Sequence[int] | None = None) -> Prediction:
    """The first scene of a network's output, as arrays, with the images it belongs to.

    Args:
        decoded: the views that must have depth; None for all.

    Raises:
        InputError: depth is not a number, which no whole network gives.
    """
    sky, extrinsics, intrinsics = (_array(output, name) for name in ("sky", "extrinsics", "intrinsics"))
    if intrinsics is not None:
        intrinsics = with_square_pixels(intrinsics, batch.processed_from_original)
    depth = _to_numpy(output["depth"])
    wanted = depth if decoded is None else depth[list(decoded)]
    if not np.isfinite(wanted).all():
        share = 1 - np.isfinite(wanted).mean()
        raise InputError(
            f"the model gives no number for {share:.0%} of the pixels: its weights are damaged or do not bear this "
            "precision; load them anew, or choose another precision"
        )
    gaussians, scale_factor = output.get("gaussians"), output.get("scale_factor")
    return Prediction(
        depth=depth,
        is_metric=int(output.get("is_metric", 0)),
        conf=_array(output, "depth_conf"),
        sky=None if sky is None else sky >= SKY_THRESHOLD,
        extrinsics=None if extrinsics is None else to_homogeneous(extrinsics),
        intrinsics=intrinsics,
        intrinsics_source=None if intrinsics is None else of_all_views("estimated", len(intrinsics)),
        processed_images=batch.images,
        gaussians=None if gaussians is None else Gaussians(**gaussians),
        aux={name: _to_numpy(features) for name, features in output.get("aux", {}).items()},
        scale_factor=None if scale_factor is None else float(scale_factor),
        original_sizes=batch.original_sizes,
        processed_from_original=batch.processed_from_original,
        image_names=batch.names,
        class_tokens=_array(output, "class_tokens"),
    )


def with_far_as_sky(prediction: Prediction) -> Prediction:
    """What a model without a sky head puts out of all proportion to the scene, as sky.

    That is depth beyond `FARTHEST` times the `NEAR_PERCENTILE` of all views together; `sky` stays None without any.
    """
    if prediction.sky is not None:
        return prediction
    sky = prediction.depth > FARTHEST * np.percentile(prediction.depth[prediction.has_depth], NEAR_PERCENTILE)
    return replace(prediction, sky=sky) if sky.any() else prediction


def with_square_pixels(intrinsics: np.ndarray, processed_from_original: np.ndarray) -> np.ndarray:
    """Estimated intrinsics `(N, 3, 3)` of processed images, as cameras with square pixels have them.

    A network estimates the fields of view of both axes, which disagree about the one focal length that a camera has in
    pixels of the image as given: their geometric mean is taken. The principal point stays.

    Args:
        processed_from_original: `(N, 3, 3)`, with the two factors of the resize on the diagonal.
    """
    resize = processed_from_original[:, [0, 1], [0, 1]]
    focal_lengths = intrinsics[:, [0, 1], [0, 1]] / resize
    result = intrinsics.copy()
    result[:, [0, 1], [0, 1]] = resize * np.sqrt(focal_lengths.prod(axis=1, keepdims=True))
    return result


def with_known_intrinsics(prediction: Prediction, intrinsics: np.ndarray) -> Prediction:
    """`intrinsics` `(N, 3, 3)` of the processed images in place of estimated ones, which go to `aux`."""
    aux = dict(prediction.aux)
    if prediction.intrinsics is not None:
        aux["estimated_intrinsics"] = prediction.intrinsics
    source = of_all_views("known", len(intrinsics))
    return replace(prediction, intrinsics=intrinsics.astype(np.float32), intrinsics_source=source, aux=aux)


def in_metres(prediction: Prediction) -> Prediction:
    """Depth of a metric model, which holds for a focal length of 300 pixels, in metres for its actual intrinsics.

    `metres = raw * (fx + fy) / 2 / 300` with focal lengths in pixels of the processed image; `aux["raw_depth"]` keeps
    the raw depth. Without intrinsics the prediction stays as it is.
    """
    if prediction.intrinsics is None:
        return prediction
    focal_length = prediction.intrinsics[:, [0, 1], [0, 1]].mean(axis=1)
    metres = prediction.depth * (focal_length / METRES_AT_FOCAL)[:, None, None]
    return replace(prediction, depth=metres, is_metric=1, aux={**prediction.aux, "raw_depth": prediction.depth})


def with_feature_poses(
    prediction: Prediction,
    images: Iterable[np.ndarray] | None = None,
    *,
    refine_scale: bool = False,
    refine_depth: bool = False,
) -> Prediction:
    """Cameras of two or more views from matching features and depth, in place of those of the network.

    `aux["feature_poses"]` is the report, a `FeaturePoses`. The world of a segment is the optical frame of its first
    view, and the depth of every view is multiplied by its `depth_scales`: where it is in metres, only if `refine_scale`
    says so. `refine_depth` also multiplies every pixel by its `depth_factors`. Where there are no intrinsics, the
    cameras rest on those of `default_intrinsics`, which become the `assumed_intrinsics` of the result. A view that
    cannot be placed has no pose, and its depth stays as it is.

    Args:
        images: `N` of `(H', W', 3)` uint8 RGB as given, in which more is found than in the processed ones. They are
            taken one after the other.
    """
    views, height, width = prediction.depth.shape
    if prediction.intrinsics is None:
        assumed = np.tile(default_intrinsics(height, width).astype(np.float32), (views, 1, 1))
        if prediction.processed_from_original is not None:
            assumed = with_square_pixels(assumed, prediction.processed_from_original)
        source = of_all_views("assumed", views)
        cameras = replace(prediction, assumed_intrinsics=assumed, intrinsics_source=source)
    else:
        cameras = prediction
    intrinsics = cameras.usable_intrinsics
    assert intrinsics is not None
    depth = prediction.depth if prediction.sky is None else np.where(prediction.sky, np.nan, prediction.depth)
    assert prediction.processed_images is not None
    if images is None or prediction.processed_from_original is None:
        found = poses_from_features(prediction.processed_images, depth, intrinsics, correct_depth=refine_depth)
    else:
        transforms = prediction.processed_from_original
        found = poses_from_features(images, depth, intrinsics, transforms, correct_depth=refine_depth)
    aux = {**prediction.aux, "feature_poses": found}
    if found.world_to_camera is None or found.depth_scales is None:
        log.warning("no camera poses from features: %s", found.failure)
        return replace(prediction, extrinsics=None, segments=found.segments, aux=aux)
    if found.failure:
        log.warning("not all camera poses from features: %s", found.failure)
    keeps_depth = prediction.is_metric and not refine_scale
    scales = np.ones_like(found.depth_scales) if keeps_depth else found.depth_scales
    factors = 1 if found.depth_factors is None else found.depth_factors
    return replace(
        cameras,
        depth=prediction.depth * scales[:, None, None].astype(np.float32) * factors,
        extrinsics=found.world_to_camera.astype(np.float32),
        segments=found.segments,
        aux=aux,
    )


def aligned_to_given_poses(prediction: Prediction, extrinsics: np.ndarray, *, to_input_scale: bool) -> Prediction:
    """Prediction and given camera poses brought into one world.

    A similarity is fitted that takes the given camera centres to the predicted ones, in every map of the prediction.
    `aux["pose_alignment"]` tells that of the largest, its scale, its residual in the given unit and the views it rests
    on; `aux["estimated_extrinsics"]` keeps the network's own poses, and `aux["world_from_gaussians"]` is the similarity
    that takes Gaussians to the result's world. A single view of a network without poses is the origin of its world.
    Views that had no pose have the given one then, and the depth of the largest map; where no view had one, none has.

    Args:
        extrinsics: `(N, 4, 4)` given world-to-camera.
        to_input_scale: True puts depth into the unit of the given poses, which become the result's. The result is then
            not called metric, whatever the model, since only the caller knows that unit. False leaves depth alone and
            moves the given poses into the world and the unit of the prediction.
    """
    if prediction.extrinsics is None and len(prediction.depth) == 1:
        prediction = replace(prediction, extrinsics=np.eye(4, dtype=np.float32)[None])
    if prediction.extrinsics is None:
        log.warning(
            "depth takes no scale from the given extrinsics, which are left out: %s",
            prediction.aux["feature_poses"].failure,
        )
        return prediction
    given = invert_rigid(extrinsics.astype(np.float64))
    eps = float(np.finfo(extrinsics.dtype).eps)
    alignments = [
        align_trajectories(given[views], invert_rigid(prediction.extrinsics[views]), eps) for views in prediction.maps
    ]
    alignment = alignments[0]
    if alignment.method == "rotation_only":
        log.warning("the given cameras have no baseline, so they set no scale: depth keeps the scale of the model")
    aux = {**prediction.aux, "pose_alignment": alignment, "estimated_extrinsics": prediction.extrinsics}
    if prediction.gaussians is not None:
        world_from_estimated = alignment.target_from_source.inverse() if to_input_scale else Similarity.identity()
        aux["world_from_gaussians"] = world_from_estimated @ _estimated_from_gaussians(prediction, extrinsics)
    in_largest = np.ones(len(given), np.float32)  # what takes depth to the unit of the largest map
    for views, own in zip(prediction.maps, alignments, strict=True):
        in_largest[views] = alignment.scale / own.scale
    depth = prediction.depth * in_largest[:, None, None]
    segments = None if prediction.segments is None else np.zeros_like(prediction.segments)
    if not to_input_scale:
        moved = invert_rigid(alignment.target_from_source.transform_camera(given)).astype(np.float32)
        return replace(prediction, depth=depth, extrinsics=moved, segments=segments, aux=aux)
    return replace(
        prediction,
        depth=depth / np.float32(alignment.scale),
        is_metric=prediction.is_metric if alignment.method == "rotation_only" else 0,
        extrinsics=extrinsics.astype(np.float32),
        segments=segments,
        world="input",
        aux=aux,
    )


def _estimated_from_gaussians(prediction: Prediction, given: np.ndarray) -> Similarity:
    """The network gives Gaussians the scale of known cameras, as it was shown them; a nested one adds metres to all
    but the Gaussians."""
    import torch

    from da3_core.network.gaussian import path_scale

    assert prediction.extrinsics is not None
    metres = prediction.scale_factor or 1.0
    estimated = camera_centres(prediction.extrinsics) / metres
    shown = camera_centres(normalise_trajectory(given))
    scale = float(path_scale(torch.from_numpy(estimated), torch.from_numpy(shown)))
    return Similarity(metres / scale, np.eye(3), np.zeros(3))


def _array(output: Mapping[str, Any], name: str) -> np.ndarray | None:
    return _to_numpy(output[name]) if output.get(name) is not None else None


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The first scene of a `(B, N, ...)` tensor on any device as float32."""
    return np.asarray(tensor[0].float().cpu().numpy())


def at_input_size(prediction: Prediction, images: Sequence[ImageInput], *, apply_exif: bool = False) -> Prediction:
    """The same prediction in pixels of the images as given.

    Depth is that of `upsample_guided`, 0 beyond what the network saw of a cropped image; confidence is interpolated,
    sky that of the nearest pixel. Features and Gaussians stay.

    Args:
        images: those of the views.
        apply_exif: as they were preprocessed.

    Raises:
        InputError: they differ in size.
    """
    from da3_core.preprocessing import decode

    sizes, to_seen = prediction.original_sizes, prediction.processed_from_original
    assert sizes is not None
    assert to_seen is not None
    assert prediction.processed_images is not None
    if len(np.unique(sizes, axis=0)) > 1:
        raise OptionError("{depth_size} input needs images of one size: process those of each size alone")
    if cropped := prediction.cropped():
        log.warning(cropped)
    height, width = map(int, sizes[0])
    views = len(images)
    pixels = np.empty((views, height, width, 3), np.uint8)
    depth = np.empty((views, height, width), np.float32)
    conf = None if prediction.conf is None else np.empty_like(depth)
    sky = None if prediction.sky is None else np.empty(depth.shape, bool)
    for view, image in enumerate(images):
        pixels[view] = decode(image, apply_exif=apply_exif)
        depth[view] = upsample_guided(
            prediction.depth[view], prediction.processed_images[view], pixels[view], to_seen[view]
        )
        if conf is not None and prediction.conf is not None:
            conf[view] = resampled(prediction.conf[view], to_seen[view], (height, width), nearest=False)
        if sky is not None and prediction.sky is not None:
            sky[view] = resampled(prediction.sky[view].astype(np.uint8), to_seen[view], (height, width), nearest=True)
    from_seen = np.linalg.inv(to_seen)
    aux = dict(prediction.aux)
    if "estimated_intrinsics" in aux:
        aux["estimated_intrinsics"] = _of_pixels(aux["estimated_intrinsics"], from_seen)
    return replace(
        prediction,
        depth=depth,
        conf=conf,
        sky=sky,
        intrinsics=_of_pixels(prediction.intrinsics, from_seen),
        assumed_intrinsics=_of_pixels(prediction.assumed_intrinsics, from_seen),
        processed_images=pixels,
        processed_from_original=np.tile(np.eye(3), (views, 1, 1)),
        aux=aux,
    )


def _of_pixels(intrinsics: np.ndarray | None, transforms: np.ndarray) -> np.ndarray | None:
    return None if intrinsics is None else np.asarray(transforms @ intrinsics.astype(np.float64), np.float32)
