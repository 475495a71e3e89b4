# SPDX-License-Identifier: Apache-2.0
"""`DepthAnything3`: a model with its weights, from images of a scene to a `Prediction`."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from da3_core.engines import choose_engine, run_on_engine
from da3_core.errors import InputError
from da3_core.export import check_request, export
from da3_core.geometry.cameras import check_extrinsics, check_intrinsics, normalise_trajectory
from da3_core.geometry.depth_in_metres import DepthInMetres
from da3_core.model import weights
from da3_core.model.device import choose_device
from da3_core.model.memory import FreeMemory
from da3_core.model.precision import autocast_dtype, describe
from da3_core.model.presets import Preset, find_preset
from da3_core.network import build_network
from da3_core.network.attention import use_attention
from da3_core.network.config import AttentionKernel
from da3_core.network.kept_views import KeptViews, KnownViews
from da3_core.network.requests import check_layers
from da3_core.options import (
    DEFAULT_MODEL,
    EXPORT_FORMATS,
    LEAST_CONFIDENT,
    DepthSize,
    Engine,
    InferenceOptions,
    ModelOptions,
    PoseMethod,
    Precision,
    ProcessResMethod,
    RefineDepth,
    RefViewStrategy,
    SceneOptions,
    WeightsLicence,
    check_options,
)
from da3_core.postprocessing import (
    aligned_to_given_poses,
    at_input_size,
    in_metres,
    to_prediction,
    with_far_as_sky,
    with_feature_poses,
    with_known_intrinsics,
)
from da3_core.prediction import Prediction
from da3_core.preprocessing import Batch, ImageInput, decode, image_names, list_images, preprocess
from da3_core.storage.files import user_cache

if TYPE_CHECKING:
    from da3_core.engines.compiled_steps import EngineState

FINGERPRINT_VALUES = 64  # of every tensor: training changes all of them

log = logging.getLogger(__name__)

Choices = TypeVar("Choices", bound=InferenceOptions)


class PresetModel:
    """What can be said about a model by its preset alone, without its weights: which options it takes.

    Attributes:
        preset: which model it is and what it can do.
    """

    preset: Preset

    def check(self, options: Choices) -> Choices:
        """The options with every choice made that they leave open, as `predict` takes them.

        Raises:
            InputError: this model cannot do what they ask for.
        """
        method = self.resolve_pose_method(options.pose_method, use_ray_pose=options.use_ray_pose)
        check_layers(options.export_feat_layers, self.preset.depth_blocks)
        return replace(
            options,
            process_res=options.process_res or self.preset.process_res,
            use_ray_pose=method == "rays",
            pose_method=method,
            refine_depth=self.preset.refine_depth if options.refine_depth == "auto" else options.refine_depth,
            infer_gs=options.wants_gaussians,
        )

    def check_scene(
        self, options: SceneOptions, *, views: int, intrinsics_known: bool, images_are_paths: bool = True
    ) -> SceneOptions:
        """As `check`, for so many images of a scene and with what is written of it, before any of them is opened.

        Raises:
            InputError: this model cannot do it, or a format cannot hold it.
        """
        options = self.check(options)
        from_features = options.pose_method == "features" and views >= 2
        if from_features and options.infer_gs and self.preset.has_gaussians:
            raise InputError(
                "infer_gs=True came with pose_method='features', but Gaussians lie in the world of the network's own "
                "cameras; leave one of them out"
            )
        check_request(
            options.export_format,
            self.preset,
            views=views,
            intrinsics_known=intrinsics_known,
            infer_gs=options.wants_gaussians,
            export_feat_layers=options.export_feat_layers,
            images_are_paths=images_are_paths,
            poses_from_features=from_features,
            **options.export_options(),
        )
        if options.infer_gs and not self.preset.has_gaussians:
            raise InputError(
                f"{self.preset.name} predicts no Gaussians; use a giant or a nested model for infer_gs=True"
            )
        return options

    def resolve_pose_method(
        self, pose_method: PoseMethod = InferenceOptions.pose_method, *, use_ray_pose: bool = False
    ) -> Literal["decoder", "rays", "features"]:
        """Where the cameras of an inference come from.

        Args:
            pose_method: `decoder` the network's camera decoder; `rays` the predicted rays, principal point included;
                `features` matches between the images and depth, see `geometry.feature_poses`; `auto` the decoder where
                the model has one that can be trusted, else features.
            use_ray_pose: the same as `rays`.

        Raises:
            InputError: an unknown method, one that this model does not have, or two at once.
        """
        check_options(InferenceOptions, {"pose_method": pose_method})
        if use_ray_pose and pose_method not in ("auto", "rays"):
            raise InputError(f"use_ray_pose=True contradicts pose_method={pose_method!r}; leave one of them out")
        if (use_ray_pose or pose_method == "rays") and not self.preset.has_poses:
            raise InputError(f"{self.preset.name} predicts no rays; use pose_method='features', or an any-view model")
        if pose_method == "decoder" and not self.preset.has_poses:
            raise InputError(
                f"{self.preset.name} has no camera decoder; use pose_method='features', or an any-view model"
            )
        if pose_method == "auto":
            return "rays" if use_ray_pose else self.preset.pose_method
        return pose_method


class DepthAnything3(PresetModel, nn.Module):
    """Depth, confidence, camera poses and intrinsics from any number of views of one scene.

    A torch module: `.to(device)`, `.cuda()` and `state_dict()` work as usual, and `model(images, ...)` is the network
    itself on normalised tensors. `inference` takes and returns what people have: images and arrays.

    Attributes:
        preset: which model this is and what it can do.
        model: the network.
        source: what it was loaded from; instead of `auto`, the model that this became.
        warning: what users of its results must be told, in one sentence, or None.
        precision: number format of the backbone, see `from_pretrained`.
        engine: what executes the network.
    """

    def __init__(
        self,
        model_name: str = "da3-large",
        *,
        precision: Precision = "auto",
        attention: AttentionKernel = "torch",
        **_config: object,
    ) -> None:
        """Build a network with random weights; the first inference says so unless weights are loaded before.

        Args:
            model_name: a preset, e.g. `da3-small`, or its hub id.
            precision: see `from_pretrained`.
            attention: see `from_pretrained`.
            **_config: what else the `config.json` of a checkpoint holds, all of it implied by `model_name`.
        """
        super().__init__()
        check_options(ModelOptions, {"precision": precision})
        self.preset: Preset = find_preset(model_name)
        self.source = model_name
        self.engine = "torch"
        self._engine_state: EngineState | None = None
        self.warning: str | None = None
        self.precision: Precision = precision
        self.model = build_network(self.preset.network)
        use_attention(self.model, attention)
        self._has_weights = False
        self._warned: set[str] = set()
        self.register_load_state_dict_post_hook(_weights_were_loaded)  # type: ignore[no-untyped-call]

    @property
    def device(self) -> torch.device:
        """Where the weights are now."""
        return next(self.parameters()).device

    @property
    def free_memory(self) -> FreeMemory:
        """What is free for it now, where it is."""
        return FreeMemory.of(self.device)

    @property
    def fingerprint(self) -> str:
        """The same for the same weights on the same kind of device, engine and number format."""
        digest = hashlib.blake2b(digest_size=16)
        for name, values in self.state_dict().items():
            digest.update(name.encode())
            digest.update(values.flatten()[:FINGERPRINT_VALUES].cpu().view(torch.uint8).numpy().tobytes())
        return f"{self.preset.name} {self.engine} {self.precision} {self.device.type} {digest.hexdigest()}"

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        weights_licence: WeightsLicence = "any",
        precision: Precision = "auto",
        engine: Engine = "auto",
        attention: AttentionKernel = "torch",
        device: str | torch.device | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> DepthAnything3:
        """Load a model with its weights.

            model = DepthAnything3.from_pretrained("depth-anything/DA3-LARGE-1.1", device="cuda")
            prediction = model.inference(["first.jpg", "second.jpg"])

        Args:
            source: one of
                - a Hugging Face id such as `depth-anything/DA3-BASE`, downloaded once and then read from the cache
                  (`HF_ENDPOINT` names a mirror, `HF_HUB_OFFLINE=1` forbids downloads),
                - a folder with `config.json` and `model.safetensors`,
                - the name of a preset, such as `da3-base`,
                - `embedded`, which needs no hub: soft depth without a unit,
                - `auto`: `DA3-BASE` where it is cached or the hub answers within seconds, else `embedded`, with a
                  warning that `warning` repeats,
                - `untrained:<preset>`, the same random weights every time, to try the plumbing without a download.
            weights_licence: `permissive` refuses weights that may not be used commercially.
            precision: of the backbone; heads and camera maths always run in float32. `auto` is bfloat16 where the
                hardware multiplies it faster, which CPUs are measured for, and float32 elsewhere.
            engine: what executes the network: `torch`, or `openvino` or `onnxruntime`, which convert it for the image
                sizes that they see, once. `auto` is OpenVINO on CPUs where it is installed, as soon as a conversion
                pays, else torch. See docs/engines.md.
            attention: `torch` (its fused kernels) or `xformers`, where that is installed and the model is on CUDA.
            device: e.g. `cuda`, `cpu`, or `auto` for CUDA where there is one; None leaves the model on the CPU.
            revision: branch, tag or commit on the hub.
            cache_dir: where downloads are kept, instead of Hugging Face's own folder.
            local_files_only: use what the cache holds, never the network.

        Raises:
            InputError: unknown model, refused licence, incomplete or damaged weights, no connection.
        """
        check_options(ModelOptions, {"precision": precision, "engine": engine})
        target = torch.device("cpu") if device is None else choose_device(str(device))
        engine_name = choose_engine(engine, target)
        loaded = weights.resolve(
            source,
            weights_licence=weights_licence,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        model = weights.load(lambda: cls(loaded.preset.name, precision=precision, attention=attention), loaded)
        model.source, model.warning = loaded.source, loaded.warning
        model = model.to(target)
        if engine_name != "torch":
            model._run_on(engine_name, loaded.path, is_auto=engine == "auto")
        return model

    @classmethod
    def from_options(cls, options: ModelOptions) -> DepthAnything3:
        """As `from_pretrained`, of what a command, a service or a node was told."""
        return cls.from_pretrained(
            options.model,
            weights_licence=options.weights_licence,
            precision=options.precision,
            engine=options.engine,
            device=options.device,
        )

    def _run_on(self, engine: str, path: Path | None, *, is_auto: bool) -> None:
        """Let another engine than torch execute the network, whose weights are from the file `path`, if any."""
        dtype = autocast_dtype(self.precision, self.device)

        def leave_on_disk(part: nn.Module) -> None:
            if path is not None and self.device.type == "cpu":
                weights.leave_on_disk(self, part, path)

        try:
            self._engine_state = run_on_engine(
                self.model,
                engine,
                "bfloat16" if dtype is torch.bfloat16 else "float32",
                user_cache() / "engines",
                weights=path,
                is_auto=is_auto,
                taken_over=leave_on_disk,
            )
        except (InputError, OSError) as error:
            if not is_auto:
                raise
            log.warning("torch executes the network: %s", error)
        else:
            self.engine = engine

    @property
    def precision_status(self) -> str:
        """In which number format the backbone computes, and why, for people."""
        return describe(self.precision, self.device)

    @property
    def engine_status(self) -> str:
        """What executes the network by now, and why, for people."""
        return self.engine if self._engine_state is None else self._engine_state.status

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors`, which `from_pretrained(folder)` and other tools read."""
        weights.save(self, self.preset, folder)

    def forward(
        self,
        images: torch.Tensor,
        extrinsics: torch.Tensor | None = None,
        intrinsics: torch.Tensor | None = None,
        *,
        export_feat_layers: Collection[int] = (),
        infer_gs: bool = False,
        use_ray_pose: bool = False,
        ref_view_strategy: RefViewStrategy = InferenceOptions.ref_view_strategy,
        known: KnownViews | None = None,
        decoded: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """The network alone, without resizing, pose normalisation, alignment or autocast.

        Args:
            images: `(B, N, 3, H, W)` float32, normalised, sides multiples of 14.
            extrinsics: `(B, N, 4, 4)` world-to-camera of known cameras, used as they are; needs `intrinsics`.
            intrinsics: `(B, N, 3, 3)` pixels of the images.
            known: from `KeptViews.known`, of views that other calls see too; what they are by themselves is kept.
            decoded: numbers of the views whose depth is wanted; that of others is NaN where leaving them out is
                possible, see `AnyViewNetwork`. None for all.

        Returns:
            `depth` `(B, N, H, W)` and, where the model has them, `depth_conf`, `extrinsics` `(B, N, 3, 4)`,
            `intrinsics`, `sky` (raw), `gaussians`, `is_metric`, `scale_factor`; `aux` by name.
        """
        output: dict[str, Any] = self.model(
            images,
            extrinsics,
            intrinsics,
            export_feat_layers=export_feat_layers,
            infer_gs=infer_gs,
            use_ray_pose=use_ray_pose,
            ref_view_strategy=ref_view_strategy,
            known=known,
            decoded=decoded,
        )
        return output

    def inference(
        self,
        image: Iterable[ImageInput],
        extrinsics: Any = None,
        intrinsics: Any = None,
        align_to_input_ext_scale: bool = InferenceOptions.align_to_input_ext_scale,
        infer_gs: bool = False,
        use_ray_pose: bool = InferenceOptions.use_ray_pose,
        ref_view_strategy: RefViewStrategy = InferenceOptions.ref_view_strategy,
        render_exts: Any = None,
        render_ixts: Any = None,
        render_hw: tuple[int, int] | None = None,
        process_res: int | None = InferenceOptions.process_res,
        process_res_method: ProcessResMethod = InferenceOptions.process_res_method,
        export_dir: str | os.PathLike[str] | None = None,
        export_format: str = EXPORT_FORMATS["library"],
        export_feat_layers: Collection[int] | None = None,
        conf_thresh_percentile: float = LEAST_CONFIDENT,
        num_max_points: int = 1_000_000,
        show_cameras: bool = True,
        feat_vis_fps: int = 15,
        export_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        pose_method: PoseMethod = InferenceOptions.pose_method,
        refine_scale: bool = InferenceOptions.refine_scale,
        refine_depth: RefineDepth = InferenceOptions.refine_depth,
        apply_exif: bool = False,
        depth_size: DepthSize = SceneOptions.depth_size,
    ) -> Prediction:
        """Depth and cameras of N images of one scene, and files of them if `export_dir` is given.

        Args:
            image: list of N paths, PIL images, RGB arrays or tensors, see `preprocessing.preprocess`.
            extrinsics: `(N, 4, 4)` or `(N, 3, 4)` known rigid world-to-camera matrices; the network is conditioned on
                them. Needs `intrinsics`. Mono, metric and embedded networks do not see them, which is said once: depth
                and cameras found by features are only aligned to them.
            intrinsics: `(N, 3, 3)` known intrinsics in pixels of the images as given. They become the result's, and
                the estimated ones go to `aux["estimated_intrinsics"]`. Without `extrinsics` they do not influence the
                network; they turn the depth of a metric model into metres.
            align_to_input_ext_scale: given poses become the result's and depth takes their unit; False moves them
                into the network's world and unit instead. See `postprocessing.aligned_to_given_poses`.
            infer_gs: predict 3-D Gaussians too (giant and nested models).
            use_ray_pose: the same as `pose_method="rays"`.
            ref_view_strategy: how the view that others refer to is chosen among 3 and more without known poses.
            render_exts: `(M, 4, 4)` world-to-camera of the frames of a `gs_video`.
            render_ixts: `(M, 3, 3)` their intrinsics.
            render_hw: their height and width.
            process_res: the length in pixels that images are resized to; None is the model's own: 504, or 224 of the
                embedded model.
            process_res_method: whether that is the longer (`upper_bound_*`) or the shorter (`lower_bound_*`) side, and
                whether sides become multiples of 14 by a `*_resize` or a `*_crop`.
            export_dir: folder of the files; None writes none.
            export_format: names of formats joined by hyphens.
            export_feat_layers: backbone blocks whose features `(N, h, w, C)` go to `aux["feat_layer_<i>"]`.
            conf_thresh_percentile, num_max_points, show_cameras, feat_vis_fps: options of the formats that have them.
            export_kwargs: options by format, before those above.
            pose_method: where cameras come from, see `resolve_pose_method`. With `features`, a view that cannot be
                placed has none, with a warning; `aux["feature_poses"]` tells more. A single view keeps what the network
                says of it.
            refine_depth: with poses from features, correct depth by what the matches triangulate; `auto` is yes for the
                embedded model.
            refine_scale: with poses from features, let depth in metres take the scale at which views match; else it is
                `focal * raw / 300` of each view.
            apply_exif: turn images upright by their EXIF tag; intrinsics then refer to the upright image.
            depth_size: `input` gives everything in pixels of the images as given, which must be of one size; see
                `postprocessing.at_input_size`.

        Raises:
            InputError: in one sentence, before any image is opened where that is possible.
        """
        options = SceneOptions(
            process_res=process_res,
            process_res_method=process_res_method,
            use_ray_pose=use_ray_pose,
            pose_method=pose_method,
            refine_scale=refine_scale,
            refine_depth=refine_depth,
            ref_view_strategy=ref_view_strategy,
            apply_exif=apply_exif,
            align_to_input_ext_scale=align_to_input_ext_scale,
            infer_gs=infer_gs,
            export_feat_layers=_layers(export_feat_layers),
            depth_size=depth_size,
            export_format=export_format,
            export_kwargs=export_kwargs or {},
            conf_thresh_percentile=conf_thresh_percentile,
            num_max_points=num_max_points,
            show_cameras=show_cameras,
            feat_vis_fps=feat_vis_fps,
            render_exts=render_exts,
            render_ixts=render_ixts,
            render_hw=render_hw,
        )
        images = list_images(image)
        options = self.check_scene(
            options,
            views=len(images),
            intrinsics_known=intrinsics is not None,
            images_are_paths=image_names(images) is not None,
        )
        prediction = self.predict(images, options, extrinsics, intrinsics)
        if depth_size == "input":
            prediction = at_input_size(prediction, images, apply_exif=apply_exif)
        if export_dir is not None:
            export(prediction, export_dir, options.export_format, **options.export_options())
        if prediction.is_metric and prediction.intrinsics is not None:
            # Of what is in metres, the guide's `focal * depth / 300` is not to make something else.
            return replace(prediction, depth=DepthInMetres.of(prediction.depth, prediction.intrinsics))
        return prediction

    def predict(
        self,
        images: Sequence[ImageInput],
        options: InferenceOptions,
        extrinsics: Any = None,
        intrinsics: Any = None,
        *,
        known: KnownViews | None = None,
        decoded: Sequence[int] | None = None,
    ) -> Prediction:
        """What `inference` does but for the check of its options and the files.

        Args:
            images, extrinsics, intrinsics: as of `inference`.
            options: as `check` or `check_scene` returned them.
            known: of images that other calls see too, see `forward`. A name stands for one image at one size.
            decoded: see `forward`; poses from features need all.

        Raises:
            InputError: a camera or an image that cannot be used, or not enough memory.
        """
        assert options.process_res is not None
        extrinsics, intrinsics = self._check_cameras(len(images), extrinsics, intrinsics)

        batch = preprocess(images, options.process_res, options.process_res_method, apply_exif=options.apply_exif)
        if intrinsics is not None:
            intrinsics = check_intrinsics(intrinsics, len(images), batch.original_sizes)
            intrinsics = batch.processed_from_original @ intrinsics

        from_features = options.pose_method == "features" and len(images) >= 2
        decoded = None if from_features else decoded
        output = self._run(batch, extrinsics, intrinsics, options, known, decoded)

        prediction = to_prediction(output, batch, decoded)
        prediction = with_far_as_sky(prediction)
        if intrinsics is not None:
            prediction = with_known_intrinsics(prediction, intrinsics)
        if self.preset.kind == "metric":
            prediction = in_metres(prediction)
        if from_features:
            as_given = (decode(image, apply_exif=options.apply_exif) for image in images)
            prediction = with_feature_poses(
                prediction,
                as_given,
                refine_scale=options.refine_scale,
                refine_depth=options.refine_depth == "yes",
            )
        if extrinsics is not None:
            to_input_scale = options.align_to_input_ext_scale
            prediction = aligned_to_given_poses(prediction, extrinsics, to_input_scale=to_input_scale)
        return prediction

    @staticmethod
    def kept_views() -> KeptViews:
        """What this model makes of single views, to be kept by one caller, for `KeptViews.known` and `predict`."""
        return KeptViews()

    def _check_cameras(
        self, views: int, extrinsics: Any, intrinsics: Any
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Given cameras as arrays."""
        if extrinsics is not None and intrinsics is None:
            raise InputError("extrinsics came without intrinsics; known cameras need both")
        return (
            None if extrinsics is None else check_extrinsics(extrinsics, views),
            None if intrinsics is None else check_intrinsics(intrinsics, views),
        )

    def _run(
        self,
        batch: Batch,
        extrinsics: np.ndarray | None,
        intrinsics: np.ndarray | None,
        options: InferenceOptions,
        known_views: KnownViews | None,
        decoded: Sequence[int] | None,
    ) -> dict[str, Any]:
        """The network's output for one scene, conditioned on its cameras if they are known and it sees them."""
        device = self.device
        dtype = autocast_dtype(self.precision, device)
        if not self._has_weights:
            self._warn_once("%s has random weights, so its depth means nothing; load some by from_pretrained")
        if self.preset.kind == "metric" and intrinsics is None:
            self._warn_once("depth of %s is in metres only with known intrinsics, and none were given")
        known: list[torch.Tensor] = []
        if extrinsics is not None and not self.preset.sees_given_poses:
            self._warn_once("%s does not see the given poses: its depth is only aligned to them")
        elif extrinsics is not None and intrinsics is not None:
            cameras = (normalise_trajectory(extrinsics), intrinsics)
            known = [torch.from_numpy(camera)[None].to(device, torch.float32) for camera in cameras]

        try:
            with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                output: dict[str, Any] = self(
                    batch.tensor.to(device),
                    *known,
                    export_feat_layers=options.export_feat_layers,
                    infer_gs=options.wants_gaussians,
                    use_ray_pose=options.use_ray_pose,
                    ref_view_strategy=options.ref_view_strategy,
                    known=known_views,
                    decoded=decoded,
                )
                return output
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        # Only here, past the exception and its traceback, are the tensors of the failed run free.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        views, height, width = batch.images.shape[:3]
        raise InputError(
            f"not enough memory on {device} for {views} views of {width} x {height} pixels; "
            "give fewer views or a smaller process_res"
        )

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning(message, self.preset.name)


def _weights_were_loaded(model: DepthAnything3, _: object) -> None:
    model._has_weights = True


def _layers(given: Collection[int] | int | None) -> tuple[int, ...]:
    """Layers as `inference` takes them: none, one number, or several."""
    return (given,) if isinstance(given, int) else tuple(given or ())


def _is_out_of_memory(error: BaseException) -> bool:
    typed = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return typed or "can't allocate memory" in str(error) or "not enough memory" in str(error)
