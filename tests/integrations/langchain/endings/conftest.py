"""A provider, models that ask it, and how each call ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
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


def settings(server: FakeOpenAI, **more: Any) -> dict[str, Any]:
    """Return what makes a client ask the local provider."""
    given = {"base_url": server.base_url, "api_key": SecretStr("test"), "max_retries": 0}
    return {**given, "model": "gpt-4o-mini", **more}


def chat(server: FakeOpenAI, **more: Any) -> ChatOpenAI:
    """Return a real chat model."""
    return ChatOpenAI(**settings(server, **more))


def governed(max_tokens: int = 100_000, **more: Any) -> tuple[BudgetManager, Any]:
    """Return a manager whose agent "a" is acting, and a config with its callbacks."""
    manager = BudgetManager(**more)
    manager.register_agent("a", max_tokens=max_tokens)
    return manager, {
        "callbacks": budget_callbacks(manager),
        "metadata": {"tbcontracts": {"agent": "a"}},
    }


def is_as_billed(manager: BudgetManager, server: FakeOpenAI) -> bool:
    """Whether the books say what the provider's log says, all of it measured, and nothing open."""
    account = manager.accounts()["a"]
    return (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)


def kinds(manager: BudgetManager) -> list[str]:
    """Return what the journal says that happened."""
    return [str(entry.kind) for entry in manager.journal()][1:]


def ask_all(model: Any, config: Any) -> Any:
    """Ask three prompts in one `generate`."""
    prompts: Any = [[HumanMessage(text)] for text in ("one", "two", "three")]
    return model.generate(prompts, callbacks=config["callbacks"], metadata=config["metadata"])
