"""A local provider, real clients for it, and the books beside its log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import FakeOpenAI


class World:
    """A provider, a model that asks it, and a manager."""

    def __init__(self, server: FakeOpenAI) -> None:
        self.server = server
        self.manager = BudgetManager()
        self.model = self.chat()

    def chat(self, **settings: Any) -> ChatOpenAI:
        """Return a real client for the local provider."""
        # A connection that is kept alive would outlive the event loop of a test.
        limits = httpx.Limits(max_keepalive_connections=0)
        given: dict[str, Any] = {"model": "gpt-4o-mini", "max_retries": 0, **settings}
        return ChatOpenAI(
            base_url=self.server.base_url,
            api_key=SecretStr("test"),
            http_async_client=httpx.AsyncClient(limits=limits),
            **given,
        )

    @property
    def consumed(self) -> dict[str, int]:
        """What the books say that each agent used."""
        accounts = self.manager.accounts().values()
        return {account.agent: account.consumed for account in accounts if account.consumed}

    @property
    def held(self) -> int:
        """What is still set aside."""
        return sum(account.held for account in self.manager.accounts().values())


@pytest.fixture
def world_of() -> Iterator[Callable[[Any], World]]:
    """Return a function that makes a provider with a script, and what belongs to it."""
    with ExitStack() as servers:
        yield lambda script: World(servers.enter_context(FakeOpenAI(script)))


@pytest.fixture
def world(world_of: Callable[[Any], World]) -> World:
    """Return a provider that answers everything with a short text, and what belongs to it."""
    return world_of(lambda request: "A short answer to that.")
