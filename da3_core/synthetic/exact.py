# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a model that knows the room: whoever uses its answers can be checked to the tenth of a millimetre."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.cameras import check_extrinsics, check_intrinsics, invert_rigid
from da3_core.geometry.quaternions import rotation_from_quaternion
from da3_core.geometry.similarity import Similarity
from da3_core.options import PROCESS_RES, InferenceOptions
from da3_core.postprocessing import aligned_to_given_poses, with_known_intrinsics
from da3_core.prediction import Prediction, of_all_views
from da3_core.preprocessing import ImageInput, decode, list_images, preprocess
from da3_core.synthetic.walk import Walk

SCALE_RANGE = (0.3, 3.0)
_OFFSET_M = 5.0
_OUTLIER_FACTORS = np.array([0.3, 3.0], np.float32)
_HOLE_PIXELS = 12
_THUMBNAIL = (32, 24)
_SAME_IMAGE = 4.0  # grey levels between thumbnails; JPEG and resizes move them by less than 1


@dataclass(frozen=True)
class _Abilities:
    """What a `Preset` says about a model."""

    name: str = "exact"
    has_poses: bool = True
    has_gaussians: bool = False


class ExactModel:
    """`inference` like that of `DepthAnything3`, with the true depth and cameras of a walk.

    Frames are recognised by what they show, so images may have gone through JPEG or a resize. As with a network, every
    call has its own world and its own unit.
    """

    preset = _Abilities()

    def __init__(
        self,
        walk: Walk,
        *,
        seed: int = 0,
        depth_noise: float = 0.0,
        outliers: float = 0.0,
        holes: float = 0.0,
        confidence: float | None = 8.0,
        similarity: bool = True,
        is_metric: bool = False,
    ) -> None:
        """Choose how the truth is disturbed.

        Args:
            seed: of all random choices; calls in the same order give the same answers.
            depth_noise: standard deviation of the depth relative to itself, by pixel.
            outliers: share of pixels whose depth is wrong by a factor of 0.3 or 3, with full confidence.
            holes: share of pixels, in squares, without depth: NaN, with the least confidence 1.
            confidence: of a surface at the camera; it falls with distance towards 1. None: the model has no confidence.
            similarity: answer in a world that is turned, moved and scaled at random; else in the walk's own world.
            is_metric: keep metres and say so; the world is still turned and moved.
        """
        self._walk = walk
        self._rng = np.random.default_rng(seed)
        self._depth_noise, self._outliers, self._holes = depth_noise, outliers, holes
        self._confidence, self._similarity, self._is_metric = confidence, similarity, is_metric
        self._thumbnails = np.stack([_thumbnail(image) for image in walk.images])
        self._depth_m: dict[tuple[int, bytes, tuple[int, int]], np.ndarray] = {}

    def check(self, options: InferenceOptions) -> InferenceOptions:
        """As of `DepthAnything3`."""
        return replace(options, process_res=options.process_res or PROCESS_RES, pose_method="decoder")

    def inference(
        self, image: Iterable[ImageInput], extrinsics: Any = None, intrinsics: Any = None, **options: Any
    ) -> Prediction:
        """The truth about N images of the walk; arguments as `DepthAnything3.inference` takes them, without files.

        Raises:
            InputError: as the model, and for an image that is none of the walk's.
        """
        return self.predict(list_images(image), self.check(InferenceOptions(**options)), extrinsics, intrinsics)

    def predict(
        self,
        images: Sequence[ImageInput],
        options: InferenceOptions,
        extrinsics: Any = None,
        intrinsics: Any = None,
        *,
        decoded: Sequence[int] | None = None,
    ) -> Prediction:
        """As of `DepthAnything3`; how cameras are found changes nothing: every way to the truth leads to the same."""
        assert options.process_res is not None
        batch = preprocess(images, options.process_res, options.process_res_method, apply_exif=options.apply_exif)
        as_given = (decode(given, apply_exif=options.apply_exif) for given in images)
        frames = [self._recognise(index, image) for index, image in enumerate(as_given)]

        size = (batch.images.shape[1], batch.images.shape[2])
        true_intrinsics = batch.processed_from_original @ self._original_intrinsics(batch.original_sizes)
        depth_m = np.stack([self._true_depth(*view, size) for view in zip(frames, true_intrinsics, strict=True)])
        model_from_world = self._random_similarity()
        camera_to_model = model_from_world.transform_camera(self._walk.camera_to_world[frames])
        depth, confidence = self._disturbed(depth_m)
        if decoded is not None:
            depth[np.setdiff1d(np.arange(len(depth)), decoded)] = np.nan

        prediction = Prediction(
            depth=depth * np.float32(model_from_world.scale),
            is_metric=int(self._is_metric or not self._similarity),
            conf=confidence,
            extrinsics=invert_rigid(camera_to_model).astype(np.float32),
            intrinsics=true_intrinsics.astype(np.float32),
            intrinsics_source=of_all_views("estimated", len(images)),
            processed_images=batch.images,
            original_sizes=batch.original_sizes,
            processed_from_original=batch.processed_from_original,
            image_names=batch.names,
        )
        if intrinsics is not None:
            known = batch.processed_from_original @ check_intrinsics(intrinsics, len(images))
            prediction = with_known_intrinsics(prediction, known)
        if extrinsics is not None:
            given = check_extrinsics(extrinsics, len(images))
            to_input_scale = options.align_to_input_ext_scale
            prediction = aligned_to_given_poses(prediction, given, to_input_scale=to_input_scale)
        return prediction

    def _recognise(self, index: int, image: np.ndarray) -> int:
        difference = np.abs(self._thumbnails - _thumbnail(image)).mean((1, 2))
        frame = int(difference.argmin())
        if difference[frame] > _SAME_IMAGE:
            raise InputError(
                f"image {index} is none of the {len(self._walk)} frames of the walk (the nearest differs by "
                f"{difference[frame]:.0f} grey levels, allowed are {_SAME_IMAGE:.0f}); give images of this walk"
            )
        return frame

    def _original_intrinsics(self, sizes: np.ndarray) -> np.ndarray:
        """`(N, 3, 3)` of images of the walk that may have been resized to `sizes` (N, 2)."""
        height, width = self._walk.size
        ratio = np.ones((len(sizes), 3))
        ratio[:, 0], ratio[:, 1] = sizes[:, 1] / width, sizes[:, 0] / height
        return np.asarray(ratio[:, :, None] * self._walk.intrinsics)

    def _true_depth(self, frame: int, intrinsics: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """`(H, W)` metres, rendered for exactly these pixels and remembered."""
        key = (frame, intrinsics.tobytes(), size)
        if key not in self._depth_m:
            self._depth_m[key] = self._walk.render_depth(frame, intrinsics, size)
        return self._depth_m[key]

    def _random_similarity(self) -> Similarity:
        """From the walk's world to that of one answer."""
        if not self._similarity:
            return Similarity.identity()
        scale = 1.0 if self._is_metric else float(np.exp(self._rng.uniform(*np.log(SCALE_RANGE))))
        rotation = rotation_from_quaternion(self._rng.normal(size=4))
        return Similarity(scale, rotation, self._rng.uniform(-_OFFSET_M, _OFFSET_M, 3))

    def _disturbed(self, depth_m: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Depth and confidence `(N, H, W)` float32 with the chosen errors."""
        depth, confidence = depth_m.copy(), None
        if self._confidence is not None:
            confidence = 1 + (self._confidence - 1) * np.exp(-depth_m / 5)
        if self._depth_noise:
            depth *= 1 + self._depth_noise * self._rng.standard_normal(depth.shape, np.float32)
        if self._outliers:
            wrong = self._rng.random(depth.shape, np.float32) < self._outliers
            depth[wrong] *= self._rng.choice(_OUTLIER_FACTORS, int(wrong.sum()))
        if self._holes:
            cells = [-(-side // _HOLE_PIXELS) for side in depth.shape[1:]]
            coarse = self._rng.random((len(depth), *cells)) < self._holes
            hole = np.kron(coarse, np.ones((_HOLE_PIXELS, _HOLE_PIXELS), bool))[:, : depth.shape[1], : depth.shape[2]]
            depth[hole] = np.nan
            if confidence is not None:
                confidence[hole] = 1
        return depth, confidence


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Small and grey: what JPEG, a resize or a missing colour channel leave as it is."""
    import cv2

    return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(float)
