# SPDX-License-Identifier: Apache-2.0
"""The written reference says what the code does."""

from pathlib import Path

from da3_ros.parameters import to_markdown

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "node.md"


def test_the_parameter_table_in_the_reference_is_the_one_that_the_code_writes():
    before, table = REFERENCE.read_text().split("--markdown -->\n")
    assert "## Parameters" in before
    assert table.split("\n<!-- end -->")[0] == to_markdown().strip()
