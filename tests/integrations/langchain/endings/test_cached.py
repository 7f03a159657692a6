"""Answers out of the cache are free."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_openai import OpenAI
from tests.integrations.langchain.endings.conftest import (
    TEXT,
    chat,
    governed,
    is_as_billed,
    settings,
)

from tbcontracts.testing import Answer, FakeOpenAI

# LangChain keeps its HTTP clients longer than a test keeps its event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def cache() -> Iterator[None]:
    """Put LangChain's own cache in place."""
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("reported", [True, False])
def test_cached_answers_are_free_with_usage_and_without(reported: bool) -> None:
    """A hit repeats the whole usage, or has only a cost of 0; nothing was sent."""
    with FakeOpenAI(lambda request: Answer(text=TEXT, report_usage=reported)) as server:
        manager, config = governed()
        chat(server).invoke("hello", config)
        before = manager.accounts()["a"]
        chat(server).invoke("hello", config)
        after = manager.accounts()["a"]
        assert len(server.log) == 1
        assert (after.consumed, after.held) == (before.consumed, 0)


@pytest.mark.usefixtures("cache")
def test_cached_texts_are_free(server: FakeOpenAI) -> None:
    """A text model's hit is not even told."""
    manager, config = governed()
    model = OpenAI(**settings(server))
    model.invoke("hello", config)
    model.invoke("hello", config)
    assert len(server.log) == 1
    assert is_as_billed(manager, server)
