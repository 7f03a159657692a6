"""LangChain's ChatOpenRouter."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from langchain_openrouter import ChatOpenRouter
from openrouter.utils import retries as waiting
from tests.providers.cells import LEFT_OPEN, cells_of, without
from tests.providers.through_langchain import LangChainClient

from tbcontracts.testing import FakeOpenAI


def model(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    make: Any = ChatOpenRouter
    made = make(
        base_url=url,
        api_key="test",
        model="openai/gpt-4o-mini",
        max_retries=retries,
        max_tokens=cap,
        **settings,
    )
    if not retries:
        # langchain-openrouter 0.2 leaves its SDK's own default then: an hour of retries.
        made.client.sdk_configuration.retry_config = None
    return made


def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK send again at once."""
    monkeypatch.setattr(waiting, "_get_sleep_interval", lambda *_, **__: 0.0)


CLIENT = LangChainClient(
    name="OpenRouter",
    server=partial(FakeOpenAI, dialect="openrouter"),
    model=model,
    calm=calm,
    but={"stream left, awaited": LEFT_OPEN},
    lacks={
        **without("its SDK has no `n`", "n = 2"),
        **without("its SDK sends only refused requests again", "retry of what was billed"),
    },
)


@pytest.mark.parametrize(("client", "kind"), cells_of(CLIENT))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
