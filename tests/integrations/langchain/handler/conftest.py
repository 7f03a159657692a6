"""A provider, real clients for it, and a manager with one agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langchain import budget_callbacks

TEXT = "An answer of a few words, as models give them."


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that answers everything with the same text."""
    with FakeOpenAI(lambda request: Answer(text=TEXT)) as running:
        yield running


def chat(server: FakeOpenAI, **settings: Any) -> ChatOpenAI:
    """Return a real client for the local provider."""
    return ChatOpenAI(
        base_url=server.base_url,
        api_key=SecretStr("test"),
        model="gpt-4o-mini",
        max_retries=0,
        **settings,
    )


def governed(max_tokens: int = 100_000, **settings: Any) -> tuple[BudgetManager, Any]:
    """Return a manager whose agent "a" is acting, and a config with its callbacks."""
    manager = BudgetManager(**settings)
    manager.register_agent("a", max_tokens=max_tokens)
    return manager, {"callbacks": budget_callbacks(manager), "metadata": {"tbcontracts": A}}


A = {"agent": "a"}
