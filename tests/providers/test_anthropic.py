"""LangChain's ChatAnthropic."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from tests.providers.cells import KNOWN, MEASURED, Expected, as_found, cells_of, without
from tests.providers.through_langchain import LangChainClient, anthropic_calm

from tbcontracts.testing import FakeAnthropic


def model(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    make: Any = ChatAnthropic
    if cap is not None:
        settings["max_tokens"] = cap
    return make(
        base_url=url, api_key="test", model="claude-sonnet-5", max_retries=retries, **settings
    )


UNTOLD = "thinking is billed as output; Anthropic does not say how much of it that was"
CLIENT = LangChainClient(
    name="Anthropic",
    server=FakeAnthropic,
    model=model,
    calm=anthropic_calm,
    but={
        **as_found(Expected(MEASURED, UNTOLD, ("reasoning",)), "reasoning", "reasoning, streamed"),
        "output cap that nobody set": Expected(KNOWN),
    },
    lacks=without("Anthropic gives one answer", "n = 2"),
)


@pytest.mark.parametrize(("client", "kind"), cells_of(CLIENT))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
