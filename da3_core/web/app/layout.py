# SPDX-License-Identifier: Apache-2.0
"""The page: its controls, and which event of which control goes to which handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from da3_core.model.presets import Preset
from da3_core.options import Option, declared
from da3_core.sources.detect import VIDEO_EXTENSIONS
from da3_core.sources.images import IMAGE_EXTENSIONS
from da3_core.web.app.clouds import CloudOptions
from da3_core.web.app.files import VIEWER
from da3_core.web.app.gradio_private import checked_blocks
from da3_core.web.app.handlers import Handlers
from da3_core.web.app.images import HEIC_EXTENSIONS, label_of, thumbnails
from da3_core.web.app.reconstruct import Choices
from da3_core.web.app.shown import DOWNLOADS, HINT, NO_CAMERA_PATH

QUEUE_SIZE = 20
_AT_ONCE = 4  # events besides inference, of all visitors together

_LABEL_WIDTH = 220  # pixels in which every label of a control fits
_VIEWER_ID = "da3-viewer"
_FLAGS = "da3-flags"
_VISIT = "da3-visit"  # of the tab's own storage, which a reload leaves and another tab does not see
# A file that the page was told to show becomes what the frame's viewer shows.
_SHOW_CLOUD = f"""(file) => {{
  const scene = [file].flat()[0]?.url;
  const address = new URL("{VIEWER}", document.baseURI);
  address.hash = scene ? new URLSearchParams({{ scene }}) : "";
  document.getElementById("{_VIEWER_ID}").contentWindow.location.replace(address);
}}"""
_KEEP_VISIT = f"(key) => {{ sessionStorage.setItem('{_VISIT}', key ?? ''); }}"
_FIND_VISIT = f"(key, ...others) => [sessionStorage.getItem('{_VISIT}') ?? '', ...others]"
STYLE = f"""
#{_VIEWER_ID} {{ display: block; width: 100%; height: 38rem; border: 0; border-radius: 8px }}
@media (max-width: 600px) {{
  #{_VIEWER_ID} {{ height: 34rem }}
  .{_FLAGS}, .{_FLAGS} .form {{ flex-direction: column }}
}}
.dark {{ --color-accent: var(--primary-300) }}
"""
# For those who hear the page: names that Gradio's components lack, whenever one is drawn.
NAMES = """() => {
  const set = (selector, attribute, value) =>
    document.querySelectorAll(selector).forEach((each) => each.setAttribute(attribute, value(each)));
  const name = () => {
    set("div.empty[aria-label]:not([role])", "role", () => "img");
    set("button img:not([alt=''])", "alt", (each) => each.closest("button").textContent.trim() ? "" : each.alt);
    set(".image-container > button:not([aria-label])", "aria-label",
      (each) => each.closest(".block").querySelector("label")?.textContent.trim() || "Image");
    set("[aria-label='common.upload']", "title", () => "Upload more");
    set("[aria-label='common.upload']", "aria-label", () => "Upload more");
  };
  name();
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
}"""

# Only fonts that every system has, so that the page asks nobody else for any.
THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(
    color_accent="*primary_700",  # as the gallery's
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    body_text_color_subdued="*neutral_600",  # paler ones are hard to read
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
)


@dataclass(frozen=True)
class _Inputs:
    video: gr.Video
    fps: gr.Slider
    files: gr.File
    preview: gr.Gallery
    status: gr.Markdown

    @property
    def changes(self) -> list[Any]:
        files = (self.files.upload, self.files.delete, self.files.clear)
        return [self.video.upload, self.video.clear, *files]

    @property
    def shown(self) -> list[Any]:
        return [self.video, self.files, self.preview, self.status]


@dataclass(frozen=True)
class _Result:
    cloud: gr.File
    summary: gr.Markdown
    view: gr.Dropdown
    previous: gr.Button
    next: gr.Button
    image: gr.Image
    depth: gr.Image
    measurement: gr.Markdown
    points: gr.State
    video: gr.Video
    video_hint: gr.Markdown

    @property
    def shown_view(self) -> list[Any]:
        return [self.image, self.depth, self.measurement, self.points]

    @property
    def shown(self) -> list[Any]:
        return [self.cloud, self.summary, self.view, *self.shown_view, self.video, self.video_hint]


def build_page(handlers: Handlers, preset: Preset, idle_s: float) -> Any:
    """The page for a model, `gr.Blocks`.

    Args:
        preset: decides which controls make sense.
        idle_s: seconds after which uploads that nobody uses are deleted.
    """
    page = checked_blocks(
        handlers.uploads.find,
        title="Depth Anything 3",
        analytics_enabled=False,
        delete_cache=(3600, int(idle_s)),
        fill_width=True,
    )
    with page:
        key = gr.State(None)
        gr.Markdown("# Depth Anything 3\nImages or a video of one scene in; a point cloud, cameras and depth out.")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                inputs = _inputs()
            with gr.Column(scale=5, min_width=320):
                result = _result()
                with gr.Row():
                    run = gr.Button("Reconstruct", variant="primary")
                    cancel = gr.Button("Cancel")
                    clear = gr.Button("Clear")
                model = gr.Dropdown(
                    [(f"{source}: {offered.gives}", source) for source, offered in handlers.models.items()],
                    value=handlers.runner.source,
                    label="Model",
                    visible=len(handlers.models) > 1,
                )
                *choices, camera_matrix = _choices(preset)
                cloud = _cloud_controls()
                with gr.Row():
                    downloads = [
                        gr.DownloadButton(
                            name,
                            interactive=False,
                            size="sm",
                            min_width=80,
                            visible=name != "Gaussians"
                            or any(offered.has_gaussians for offered in handlers.models.values()),
                        )
                        for name in DOWNLOADS
                    ]
                with gr.Row():
                    group = gr.Textbox("app", label="Gallery group", max_lines=1)
                    scene = gr.Textbox(label="Scene name", max_lines=1)
                    save = gr.Button("Save to gallery")
                saved = gr.Markdown()
        examples = _examples(handlers)

        uploads = [key, inputs.video, inputs.files, inputs.fps]
        loaded = [key, inputs.preview, inputs.status, *result.shown, *downloads]
        gr.on(
            inputs.changes,
            handlers.take_uploads,
            uploads,
            loaded,
            api_name="take_uploads",
            trigger_mode="always_last",
            show_progress_on=inputs.preview,
        )
        inputs.fps.release(
            handlers.sample_anew, uploads, loaded, trigger_mode="always_last", show_progress_on=inputs.preview
        )
        clear.click(handlers.clear, key, [key, *inputs.shown, *result.shown, *downloads])

        runs = run.click(
            handlers.reconstruct,
            [key, *choices, *cloud, model, camera_matrix],
            result.shown,
            concurrency_limit=1,
            show_progress_on=[result.cloud, result.summary],
        )
        model.change(lambda source: _fitting(handlers.models[source]), model, choices[1], api_visibility="private")
        _wire_cloud(handlers, key, result, cloud, downloads, runs)
        _wire_views(handlers, key, result, cloud)
        cancel.click(handlers.cancel, key, None, cancels=[runs], queue=False)
        save.click(handlers.save, [key, group, scene], saved)
        result.cloud.change(None, result.cloud, None, js=_SHOW_CLOUD)
        remembered = gr.Textbox(visible=False)
        kept = key.change(lambda visit: visit or "", key, remembered, api_visibility="private", show_progress="hidden")
        kept.then(None, remembered, None, js=_KEEP_VISIT)
        page.load(
            handlers.restore,
            [remembered, *cloud],
            loaded,
            api_name="restore",
            js=_FIND_VISIT,
        )
        if examples is not None:
            loaded_example = [key, *inputs.shown, *result.shown, *downloads]
            picks = examples.select(handlers.load_example, [key, *cloud], loaded_example)
            picks.then(handlers.prepare_downloads, [key, result.view, *cloud], downloads, api_visibility="private")
    page.queue(max_size=QUEUE_SIZE, default_concurrency_limit=_AT_ONCE)
    return page


def _inputs() -> _Inputs:
    extensions = [f".{extension}" for extension in IMAGE_EXTENSIONS + HEIC_EXTENSIONS]
    return _Inputs(
        video=gr.Video(label=f"Upload Video ({', '.join(VIDEO_EXTENSIONS)})", sources=["upload"], include_audio=True),
        fps=gr.Slider(0.1, 60, 10, step=0.1, label=label_of("fps"), info="frames taken per second of video"),
        files=gr.File(label="Upload Images", file_count="multiple", file_types=extensions, height=160),
        preview=gr.Gallery(label="Preview", columns=3, height=300, object_fit="contain", interactive=False, buttons=[]),
        status=gr.Markdown(),
    )


def _result() -> _Result:
    with gr.Tabs():
        with gr.Tab("Point Cloud & Cameras"):
            gr.HTML(
                f'<iframe id="{_VIEWER_ID}" src="{VIEWER}" title="Point cloud and cameras"></iframe>', padding=False
            )
            cloud = gr.File(label="Point cloud", visible="hidden")
        with gr.Tab("Depth"):
            with gr.Row():
                previous = gr.Button("◀ Previous", size="sm")
                view = gr.Dropdown([], label="Select View", interactive=False)
                following = gr.Button("Next ▶", size="sm")
            with gr.Row():
                image = gr.Image(label="Image", interactive=False, format="png", buttons=["download", "fullscreen"])
                depth = gr.Image(
                    label="Depth, near is red", interactive=False, format="png", buttons=["download", "fullscreen"]
                )
            measurement = gr.Markdown(HINT)
        with gr.Tab("3DGS Rendered Novel Views"):
            video = gr.Video(label="Camera path", interactive=False, autoplay=True, loop=True)
            video_hint = gr.Markdown(NO_CAMERA_PATH)
    summary = gr.Markdown()
    points = gr.State([])
    return _Result(cloud, summary, view, previous, following, image, depth, measurement, points, video, video_hint)


def _choices(preset: Preset) -> list[Any]:
    """Controls of `Choices`, in its order."""
    options = declared(Choices)
    with gr.Row():
        method = gr.Radio(**_chosen(options["method"]), info=options["method"].sentence)
        strategy = gr.Dropdown(**_chosen(options["ref_view_strategy"]))
    # Where the model estimates no camera, there is no point cloud without one.
    with gr.Accordion("The camera, if it is known", open=not preset.has_poses), gr.Row():
        camera: list[Any] = [
            gr.Number(**_valued(each), info=each.sentence, minimum=each.low, maximum=each.high)
            for each in (options["focal_length_px"], options["hfov_deg"])
        ]
        camera.append(gr.Checkbox(**_valued(options["focal_from_exif"])))
        matrix = options["camera_matrix"]
        camera.append(
            gr.Textbox(**_valued(matrix) | {"value": ""}, info=matrix.sentence, placeholder="fx 0 cx 0 fy cy 0 0 1")
        )
    with gr.Row():
        infer_gs = gr.Checkbox(**_valued(options["infer_gs"]), visible=preset.has_gaussians)
        camera_path = gr.Radio(**_chosen(options["camera_path"]), visible=False)
        quality = gr.Radio(**_chosen(options["quality"]), visible=False)
    infer_gs.change(
        lambda wanted: (gr.Radio(visible=wanted), gr.Radio(visible=wanted)),
        infer_gs,
        [camera_path, quality],
        api_visibility="private",
    )
    return [method, infer_gs, camera_path, quality, strategy, *camera]


def _fitting(preset: Preset) -> Any:
    """What a change of the model does to the control of Gaussians."""
    return gr.Checkbox(visible=True) if preset.has_gaussians else gr.Checkbox(value=False, visible=False)


def _cloud_controls() -> list[Any]:
    """In the order that handlers take them."""
    options = declared(CloudOptions)
    with gr.Row(elem_classes=_FLAGS):
        flags = [gr.Checkbox(**_valued(options[name])) for name in ("show_cameras", "filter_black", "filter_white")]
    share, most = options["filter_percentage"], options["max_points"]
    with gr.Row():
        percentage = gr.Slider(share.low, share.high, **_valued(share), step=1)
        max_points = gr.Slider(
            1000,
            most.high / 1000,
            most.default / 1000,
            step=1000,
            label=f"{label_of(most.name)} (thousand)",
            min_width=_LABEL_WIDTH,
        )
    return [*flags, percentage, max_points]


def _valued(option: Option) -> dict[str, Any]:
    """What every control is told of the option that it sets."""
    return {"value": option.default, "label": label_of(option.name), "min_width": _LABEL_WIDTH}


def _chosen(option: Option) -> dict[str, Any]:
    """As `_valued`, of a control that offers the choices."""
    return {"choices": list(option.choices), **_valued(option)}


def _examples(handlers: Handlers) -> gr.Gallery | None:
    if not handlers.examples:
        return None
    thumbs = [(thumbnails(one.images[:1])[0][0], one.name) for one in handlers.examples]
    return gr.Gallery(
        thumbs,
        label="Examples",
        columns=8,
        fit_columns=False,
        height=220,
        allow_preview=False,
        interactive=False,
        buttons=[],
    )


def _wire_cloud(
    handlers: Handlers, key: gr.State, result: _Result, cloud: list[Any], downloads: list[Any], runs: Any
) -> None:
    """Whatever changes the cloud changes the files to take home too."""
    changed = [control.release if isinstance(control, gr.Slider) else control.input for control in cloud]
    redraws = gr.on(
        changed,
        handlers.redraw,
        [key, result.view, *cloud],
        result.cloud,
        api_name="redraw",
        trigger_mode="always_last",
    )
    for event in (runs, redraws):
        event.success(
            handlers.prepare_downloads,
            [key, result.view, *cloud],
            downloads,
            api_name="prepare_downloads" if event is runs else None,
            api_visibility="public" if event is runs else "private",
        )


def _wire_views(handlers: Handlers, key: gr.State, result: _Result, cloud: list[Any]) -> None:
    chosen = result.view.input(handlers.show_view, [key, result.view], result.shown_view)
    before = result.previous.click(handlers.previous_view, [key, result.view], [result.view, *result.shown_view])
    after = result.next.click(handlers.next_view, [key, result.view], [result.view, *result.shown_view])
    for event in (chosen, before, after):
        event.success(handlers.redraw_of_view, [key, result.view, *cloud], result.cloud, api_visibility="private")
    for image in (result.image, result.depth):
        image.select(
            handlers.pick_point,
            [key, result.view, result.points],
            result.shown_view,
            api_name="pick_point" if image is result.image else None,
            api_visibility="public" if image is result.image else "private",
        )
