"""Gate and guard on a store behind a network, and a provider that says when it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetManager, abandoned
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts.testing.slow_store import SlowStore
from tbcontracts_langchain import budget_callbacks

TEXT = "An answer of a few words, as models give them."


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that answers everything with the same text."""
    with FakeOpenAI(lambda request: Answer(text=TEXT)) as running:
        yield running


@pytest.fixture
def store() -> Iterator[SlowStore]:
    """Return a store whose answers can be held back."""
    slow = SlowStore()
    yield slow
    slow.let_go()


def chat(server: FakeOpenAI, **settings: Any) -> ChatOpenAI:
    """Return a real client for the local provider."""
    return ChatOpenAI(
        base_url=server.base_url,
        api_key=SecretStr("test"),
        model="gpt-4o-mini",
        max_retries=0,
        stream_usage=True,
        **settings,
    )


def governed(store: SlowStore, max_tokens: int = 100_000, **settings: Any) -> tuple[Any, Any]:
    """Return a manager with an agent and its books open, and a config with its callbacks."""
    manager = BudgetManager(store=store, **settings)
    manager.register_agent("a", max_tokens=max_tokens)
    manager.report()
    metadata = {"tbcontracts": {"agent": "a"}}
    return manager, {"callbacks": budget_callbacks(manager), "metadata": metadata}


async def quiet() -> None:
    """Wait until all that was begun in the background is done."""
    while running := set(abandoned._running):
        await asyncio.wait(running)


def kinds(manager: BudgetManager) -> list[str]:
    """Return what the journal says that happened."""
    return [str(entry.kind) for entry in manager.journal()][1:]
