"""What the tests for LangChain share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from tests.integrations.langchain.leftovers import find_leftovers


@pytest.fixture
def forgotten_coroutines() -> Iterator[None]:
    """Find the coroutines that LangChain makes and forgets now, not in the middle of another test.

    It makes one for each inline handler before it awaits the first; where that one raises, Python
    warns of the others when it finds them.
    """
    find_leftovers()
    yield
    gc.collect()
