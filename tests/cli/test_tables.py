# SPDX-License-Identifier: Apache-2.0
"""The tables of the documents are those that the declarations make."""

import re
from pathlib import Path

import pytest

from da3_core.cli import reference
from da3_core.options import EXPORT_FORMATS

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    ("document", "table"),
    [
        ("command_line.md", "commands"),
        ("command_line.md", "formats"),
        ("backend.md", "request"),
        ("models.md", "models"),
    ],
)
def test_tables_are_written_by_the_code(document: str, table: str) -> None:
    if table == "request":
        pytest.importorskip("pydantic", reason="needs the extra service")
    _, after = (DOCS / document).read_text().split(f"<!-- written by: python -m da3_core.cli.reference {table} -->\n")
    assert after.split("\n<!-- end -->")[0] == getattr(reference, table)()


def test_the_default_export_formats_are_told_with_their_reasons() -> None:
    text = (DOCS / "command_line.md").read_text()
    rows = re.findall(r"^\| `(\w+)`[^|]*\| `([\w-]+)` \| \w[^|]+\|$", text, re.MULTILINE)
    assert dict(rows) == EXPORT_FORMATS
