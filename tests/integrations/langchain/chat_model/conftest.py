"""A model that keeps itself to a contract, a provider with a log, and ways to ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langchain import BudgetedChatModel

TEXT = "An answer of a few words, as models give them."


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that uses up whatever cap it is given."""
    with FakeOpenAI(lambda request: Answer(text=TEXT, fill=True)) as running:
        yield running


def chat(server: FakeOpenAI, **settings: Any) -> ChatOpenAI:
    """Return a real client for the local provider."""
    # A connection that is kept alive would outlive the event loop of a test.
    client = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))
    given: dict[str, Any] = {"base_url": server.base_url, "api_key": SecretStr("test")}
    given["http_async_client"] = client
    return ChatOpenAI(model="gpt-4o-mini", max_retries=0, **given, **settings)


def governed(
    server: FakeOpenAI, max_tokens: int = 5_000, *, enforcement: str = "expected", **settings: Any
) -> tuple[BudgetManager, BudgetedChatModel]:
    """Return a manager with one agent, and a model of that agent."""
    manager = BudgetManager(enforcement=enforcement)
    manager.register_agent("a", max_tokens=max_tokens)
    model = BudgetedChatModel(inner=chat(server, **settings), manager=manager, agent="a")
    return manager, model


def caps(server: FakeOpenAI) -> list[int | None]:
    """Return the output caps that were sent."""
    return [request.body.get("max_completion_tokens") for request in server.log]


def assert_true(manager: BudgetManager, server: FakeOpenAI) -> None:
    """Check that the books equal the log, and that nothing is left open."""
    server.wait_until_quiet()
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.unmeasured) == (server.billed_tokens, 0, 0)
    assert account.remaining >= 0
