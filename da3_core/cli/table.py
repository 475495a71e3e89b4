# SPDX-License-Identifier: Apache-2.0
"""Tables for the terminal: columns as wide as what is in them, the last one wrapped."""

import shutil
import textwrap
from collections.abc import Sequence

_GAP = "  "
_LEAST = 24  # letters of the last column


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of text; a row has as many cells as the head."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head) - 1)]
    indent = sum(widths) + len(_GAP) * len(widths)
    room = max(_LEAST, shutil.get_terminal_size().columns - indent)
    lines = []
    for row in (head, *rows):
        start = "".join(cell.ljust(width) + _GAP for cell, width in zip(row[:-1], widths, strict=True))
        last = textwrap.wrap(row[-1], room, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [(start + last[0]).rstrip(), *(" " * indent + line for line in last[1:])]
    return "\n".join(lines)
