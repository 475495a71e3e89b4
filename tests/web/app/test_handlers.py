# SPDX-License-Identifier: Apache-2.0
"""What visitors may do beside looking at one result: cancel, come back, choose a model."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the web app needs `pip install gradio`")

import gradio as gr

from da3_core.errors import InputError
from da3_core.model.presets import PRESETS
from da3_core.options import ModelOptions
from da3_core.web.app.examples import ExampleCache
from da3_core.web.app.handlers import GoneError, Handlers, watch
from da3_core.web.app.uploads import VisitorUploads
from da3_core.web.app.visits import Visit, Visits
from da3_core.web.model_runner import ModelRunner
from da3_core.web.uploads import UploadLimits

CHOICES = ("low_res", False, "smooth", "low", "saddle_balanced", 0, 0, False)
CLOUD = (True, False, False, 40, 1000)
SMALL, MONO = "untrained:da3-small", "untrained:da3mono-large"


@pytest.fixture
def handlers(tmp_path: Path) -> Handlers:
    runner = ModelRunner(ModelOptions(SMALL, device="cpu"), preset=PRESETS["da3-small"])
    return Handlers(
        runner=runner,
        process_res=56,
        visits=Visits(tmp_path / "visits", 60),
        uploads=VisitorUploads(tmp_path / "uploads", UploadLimits(), 60),
        gallery=tmp_path / "gallery",
        examples=(),
        cache=ExampleCache(tmp_path / "visits", SMALL, 56, ""),
        models={SMALL: PRESETS["da3-small"], MONO: PRESETS["da3mono-large"]},
    )


@pytest.fixture
def key(handlers: Handlers, pictures: list[Path]) -> str:
    key = handlers.visits.open()
    with handlers.visits.use(key) as visit:
        visit.images = tuple(pictures[:2])
    return key


def unseen(*values: Any, **told: Any) -> None:
    """Progress that nobody looks at."""


def test_a_cancelled_inference_leaves_the_page_and_the_next_one_runs(handlers: Handlers, key: str) -> None:
    def cancelling(*values: Any, **told: Any) -> None:
        handlers.cancel(key)

    assert handlers.reconstruct(key, *CHOICES, *CLOUD, SMALL, "", progress=cancelling) == gr.skip()
    assert handlers.restore(key, *CLOUD)[2:4] == ("2 images", None)
    handlers.reconstruct(key, *CHOICES, *CLOUD, SMALL, "", progress=unseen)
    visit, preview, status, cloud, summary, *_ = handlers.restore(key, *CLOUD)
    assert (visit, len(preview), status) == (key, 2, "2 images")
    assert Path(cloud).is_file()
    assert summary.startswith("2 views · ")
    assert handlers.restore("session_of_somebody", *CLOUD)[:3] == (None, None, "")
    assert handlers.restore("", *CLOUD) == gr.skip()  # else what a quick visitor has uploaded by then would go


def test_a_model_that_is_not_offered_is_refused(handlers: Handlers, key: str) -> None:
    with pytest.raises(gr.Error, match="there is no model 'untrained:da3-giant' here: choose one of untrained:da3-s"):
        handlers.reconstruct(key, *CHOICES, *CLOUD, "untrained:da3-giant", "", progress=unseen)
    handlers.runner.choose(MONO, PRESETS["da3mono-large"])
    assert (handlers.runner.source, handlers.runner.is_loaded) == (MONO, False)
    handlers.reconstruct(key, *CHOICES, *CLOUD, SMALL, "", progress=unseen)
    assert handlers.runner.state.preset == PRESETS["da3-small"]


def test_how_long_it_will_take_is_told_once_a_second(tmp_path: Path) -> None:
    told: list[str] = []
    visit = Visit(tmp_path)
    check = watch(visit, 100, 42, lambda share, desc: told.append(f"{share:.0%} {desc}"))
    check()
    check()
    assert told == ["0% Inference, about 42 s left"]
    watch(visit, 100, 0, lambda share, desc: told.append(desc))()
    assert len(told) == 1
    visit.is_cancelled = True
    with pytest.raises(GoneError):
        check()
    with pytest.raises(InputError, match="more than 0 s"):
        watch(Visit(tmp_path), 0, 0, unseen)()


def test_images_of_both_orientations_are_told() -> None:
    from da3_core.web.app.shown import images

    paths = [Path("a"), Path("b"), Path("c")]
    assert images(paths, [(4, 3)] * 3) == images(paths, [(3, 4)] * 3) == "3 images"
    assert images(paths, [(4, 3), (3, 4), (4, 3)]).startswith("3 images: 1 upright, 2 wide. Each will be cropped")
