# SPDX-License-Identifier: Apache-2.0
"""Windows that are kept on disk: exactly what was said, found again by what was asked, and by nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.options import InferenceOptions
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.inference import InferenceInTurn, RequestOf, WindowRequest, bind_frames, bind_predict
from da3_core.stream.kept_windows import KeptInference, KeptWindows, kept_beside, work_folder
from da3_core.stream.prediction_file import from_bytes, to_bytes
from da3_core.synthetic import Walk
from da3_core.synthetic.exact import ExactModel

OPTIONS = InferenceOptions(process_res=320)


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    elif is_dataclass(first):
        for each in fields(first):
            assert_same(getattr(first, each.name), getattr(second, each.name))
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert_same(value, second[name])
    else:
        assert first == second or (first != first and second != second)


@pytest.fixture
def frames(walk: Walk) -> list[Frame]:
    return [
        Frame(image, stamp_ns=i, camera="camera", intrinsics=walk.intrinsics) for i, image in enumerate(walk.images[:4])
    ]


@pytest.fixture
def request_of(walk: Walk) -> RequestOf[Frame]:
    return bind_frames(ExactModel(walk), OPTIONS)


def test_a_prediction_is_the_same_after_bytes(walk: Walk, frames: list[Frame], request_of: RequestOf[Frame]) -> None:
    prediction = bind_predict(ExactModel(walk), OPTIONS)(request_of(frames))
    posed = ExactModel(walk).predict(
        [*walk.images[:4]], OPTIONS, invert_rigid(walk.camera_to_world[:4]), walk.intrinsics[None].repeat(4, 0)
    )
    assert "pose_alignment" in posed.aux
    for each in (
        prediction,
        replace(posed, stamps_ns=np.arange(4), image_names=("a", "b", "c", "d"), scale_factor=1.5),
    ):
        assert_same(from_bytes(to_bytes(each)), each)


def test_what_is_damaged_or_foreign_is_refused(walk: Walk) -> None:
    data = to_bytes(ExactModel(walk).predict([*walk.images[:2]], OPTIONS))
    for damaged in (data[: len(data) // 2], b"", data[:200] + b"xxxx" + data[204:]):
        with pytest.raises(InputError, match="is damaged"):
            from_bytes(damaged)
    with pytest.raises(TypeError, match="object"):
        to_bytes(Prediction(np.ones((1, 2, 2), np.float32), aux={"what": object()}))


class Counted:
    """Answers by a model, and remembers the windows that it was asked about."""

    def __init__(self, predict: Callable[[WindowRequest], Prediction]) -> None:
        self.asked: list[int] = []
        self._predict = predict

    def __call__(self, request: WindowRequest) -> Prediction:
        self.asked.append(len(request.images))
        return self._predict(request)


def test_finished_windows_are_found_and_others_are_inferred(
    walk: Walk, frames: list[Frame], request_of: RequestOf[Frame], tmp_path: Path
) -> None:
    def run(images: Sequence[Frame], identity: str = "model") -> tuple[list[int], list[Prediction]]:
        predict = Counted(bind_predict(ExactModel(walk), OPTIONS))
        infer = KeptInference(
            InferenceInTurn(request_of, predict), request_of, KeptWindows(tmp_path / "kept", identity)
        )
        windows = [images[:2], images[1:4]]
        return predict.asked, [infer(window) for window in infer.ahead(windows, lambda window: window)]

    asked, first = run(frames)
    assert asked == [2, 3]
    copies = [replace(frame, image=frame.image.copy()) for frame in frames]  # as another process reads them
    asked, second = run(copies)
    assert asked == []
    for before, after in zip(first, second, strict=True):
        assert_same(after, before)
    changed = [*copies[:3], replace(copies[3], image=255 - copies[3].image)]
    moved = [replace(frame, intrinsics=walk.intrinsics + np.diag([1, 1, 0])) for frame in frames]
    with pytest.raises(InputError):
        run(changed)  # which the model does not know: it was asked
    assert run(frames, "other model")[0] == [2, 3]
    assert run(moved)[0] == [2, 3]
    for file in (tmp_path / "kept").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert run(frames)[0] == [2, 3]


def test_work_folder_goes_with_success_alone(
    walk: Walk, frames: list[Frame], request_of: RequestOf[Frame], tmp_path: Path
) -> None:
    class Model:
        fingerprint = "exact"

    prediction = ExactModel(walk).predict([*walk.images[:2]], OPTIONS)
    folder = work_folder(tmp_path / "out")
    with pytest.raises(OSError, match="full"), kept_beside(tmp_path / "out", Model(), OPTIONS) as kept:  # noqa: PT012
        kept.keep(request_of(frames[:2]), prediction)
        raise OSError("full")
    with kept_beside(tmp_path / "out", Model(), OPTIONS) as kept:
        assert kept.has(request_of(frames[:2]))
        assert folder.is_dir()
    assert not folder.exists()
    with kept_beside(tmp_path / "out", Model(), replace(OPTIONS, process_res=56)) as kept:
        assert not kept.has(request_of(frames[:2]))
