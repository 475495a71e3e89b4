# SPDX-License-Identifier: Apache-2.0
"""The exceptions for what a user can put right."""

from collections.abc import Callable
from functools import partial

Spelling = Callable[[str], str]


class InputError(ValueError):
    """A refused input. Its text is one sentence for a person: what was received, what is allowed, the remedy.

    The command line prints it and exits, the node logs it and lives on; neither shows a traceback.
    """

    def spelled(self, spelling: Spelling) -> str:
        """The sentence as a face shows it, which writes the name of an option as `spelling` says."""
        return str(self)


class OptionError(InputError):
    """A refused input whose sentence names options: fields of the dataclasses of options, or arguments.

    Its text names them as Python does.

    Args:
        sentence: such as `"{pose_source} is {given!r}: give one of {allowed}"`. A placeholder that has no value is an
            option; the others are filled in as by `str.format`.
        values: of placeholders; none may be called like an option of the sentence. Errors among them are spelled too.
    """

    def __init__(self, sentence: str, **values: object) -> None:
        super().__init__(sentence)
        self._sentence, self._values = sentence, values

    def __str__(self) -> str:
        return self.spelled(str)

    def __reduce__(self) -> tuple[Callable[..., "OptionError"], tuple[object, ...]]:
        return partial(type(self), self._sentence, **self._values), ()  # for other processes

    def spelled(self, spelling: Spelling) -> str:
        values = {
            name: value.spelled(spelling) if isinstance(value, InputError) else value
            for name, value in self._values.items()
        }
        return self._sentence.format_map(_Values(values, spelling))


class ImageError(InputError):
    """A refused input that is one of several images, or its camera; the others may be fine without it.

    Attributes:
        index: its place among the images that were given together.
    """

    def __init__(self, index: int, sentence: str) -> None:
        super().__init__(sentence)
        self.index = index

    def __reduce__(self) -> tuple[type["ImageError"], tuple[int, str]]:
        return type(self), (self.index, str(self))  # for other processes


class _Values(dict[str, object]):
    """Values of placeholders; a name that has none is an option."""

    def __init__(self, values: dict[str, object], spelling: Spelling) -> None:
        super().__init__(values)
        self._spelling = spelling

    def __missing__(self, option: str) -> str:
        return self._spelling(option)
