"""The page for users of the published package: each line of its table is one of our tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "content" / "coming-from-token-budget-contracts.md").read_text("utf-8")


def test_each_line_of_the_table_is_a_test() -> None:
    """What the page says was wrong and is right is what tests of these names show."""
    lines = re.findall(r"^\| ([SL]\d+[a-z]?) \|", PAGE, re.MULTILINE)
    tests = [ROOT / "tests/compat", ROOT / "tests/integrations/langgraph"]
    code = "\n".join((folder / "test_peer_defects.py").read_text("utf-8") for folder in tests)
    tested = set(re.findall(r"^def test_([SL]\d+[a-z]?)_", code, re.MULTILINE))
    expected = {f"S{number}" for number in range(1, 11)} | {"S1b", "S1c"}
    expected |= {f"L{number}" for number in range(1, 9)}
    assert set(lines) == tested == expected
    assert len(lines) == len(expected)
