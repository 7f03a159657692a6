"""LangChain's ChatGroq."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from groq._base_client import BaseClient
from langchain_groq import ChatGroq
from tests.providers.cells import LEFT_OPEN, cells_of, without
from tests.providers.through_langchain import LangChainClient

from tbcontracts.testing import FakeOpenAI


def model(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    make: Any = ChatGroq
    return make(
        base_url=url,
        api_key="test",
        model="llama-3.3-70b-versatile",
        max_retries=retries,
        max_tokens=cap,
        **settings,
    )


def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK send again at once."""
    monkeypatch.setattr(BaseClient, "_calculate_retry_timeout", lambda *_, **__: 0.0)


CLIENT = LangChainClient(
    name="Groq",
    server=partial(FakeOpenAI, dialect="groq"),
    model=model,
    calm=calm,
    but={"stream left by the caller": LEFT_OPEN},
    lacks=without("Groq bills no writes", "cache written", "cache written, streamed"),
)


@pytest.mark.parametrize(("client", "kind"), cells_of(CLIENT))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
