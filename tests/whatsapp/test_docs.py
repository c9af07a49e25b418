"""The pages say what the tables of the code say."""

from __future__ import annotations

import re
from pathlib import Path

from streams.whatsapp.providers.meta_errors import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "whatsapp" / "errors.md"


def test_every_code_is_on_the_page_with_its_reason():
    rows = dict(
        re.findall(
            r"^\| (\d+)(?: to 299)? \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE
        )
    )
    assert rows == {
        str(code): rule.reason for code, rule in TABLE.items() if not 200 < code < 300
    }
