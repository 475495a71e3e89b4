# SPDX-License-Identifier: Apache-2.0
"""Example scenes, the sub-folders of a folder, and their results, computed once and kept on disk."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from da3_core.prediction import Prediction
from da3_core.sources.images import is_image, natural_order
from da3_core.storage.staging import staged_folder
from da3_core.web.app.reconstruct import Choices
from da3_core.web.app.stored import load_prediction, save_prediction

logger = logging.getLogger(__name__)

_PREDICTION, _ORIGIN = "prediction.npz", "origin.json"


@dataclass(frozen=True)
class Example:
    """
    Attributes:
        name: of its folder.
        images: its views, in natural order.
    """

    name: str
    images: tuple[Path, ...]


def find_examples(folder: Path) -> list[Example]:
    """The sub-folders that hold images, by name; none where there is no such folder."""
    scenes = sorted((path for path in folder.glob("[!.]*") if path.is_dir()), key=natural_order)
    examples = [
        Example(scene.name, tuple(sorted(filter(is_image, scene.iterdir()), key=natural_order))) for scene in scenes
    ]
    return [example for example in examples if example.images]


@dataclass(frozen=True)
class ExampleCache:
    """Results of examples, as `<root>/example_<name>/`.

    Attributes:
        root: where they are.
        model: which model made them; those of another one are not used.
        process_res: likewise.
        gaussian_tag: scenes whose names contain it are done in high resolution with Gaussians; empty for none.
    """

    root: Path
    model: str
    process_res: int | None
    gaussian_tag: str = ""

    def choices(self, example: Example) -> Choices:
        if self.gaussian_tag and self.gaussian_tag in example.name:
            return Choices(method="high_res", infer_gs=True)
        return Choices()

    def fill(self, examples: Sequence[Example], compute: Callable[[Example, Choices, Path], Prediction]) -> None:
        """Compute what is not there; `compute` writes the files of a result into a folder that is new."""
        for example in examples:
            if self.load(example) is not None:
                continue
            logger.info("example %s: %d views", example.name, len(example.images))
            with staged_folder(self._folder(example), replace=True) as staging:
                save_prediction(compute(example, self.choices(example), staging), staging / _PREDICTION)
                (staging / _ORIGIN).write_text(json.dumps(self._origin(example)))

    def load(self, example: Example) -> Prediction | None:
        """The prediction, if one was made by this model from these images."""
        folder = self._folder(example)
        try:
            if json.loads((folder / _ORIGIN).read_text()) != self._origin(example):
                return None
            return load_prediction(folder / _PREDICTION)
        except FileNotFoundError:
            return None
        except Exception as error:  # damaged archives make their readers raise almost anything
            logger.warning("the kept result of example %s cannot be read (%s): it is not used", example.name, error)
            return None

    def copy_files(self, example: Example, target: Path) -> None:
        """The files of a result into a folder that is not there yet."""
        shutil.copytree(self._folder(example), target, ignore=shutil.ignore_patterns(_PREDICTION, _ORIGIN))

    def _folder(self, example: Example) -> Path:
        return self.root / f"example_{example.name}"

    def _origin(self, example: Example) -> dict[str, object]:
        """What a result depends on."""
        images = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in example.images]
        choices = asdict(self.choices(example))
        return {"model": self.model, "process_res": self.process_res, "choices": choices, "images": images}
