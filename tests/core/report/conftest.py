"""What the tests of the report share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.core.report.chromium import Chromium, find_chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Return the system's Chromium; without one the test is skipped, or fails where `CI` is set."""
    executable = find_chromium()
    if executable is None:
        said = "There is no Chromium on this machine (Debian: apt install chromium)."
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    browser = Chromium(executable)
    yield browser
    browser.close()
