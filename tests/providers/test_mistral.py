"""LangChain's ChatMistralAI."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from langchain_mistralai import ChatMistralAI
from tests.providers.cells import LEFT_OPEN, MEASURED, Expected, as_found, cells_of, without
from tests.providers.through_langchain import LangChainClient

from tbcontracts.testing import FakeOpenAI


def model(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    make: Any = ChatMistralAI
    if "n" in settings:
        settings["model_kwargs"] = {"n": settings.pop("n")}
    return make(
        base_url=url,
        api_key="test",
        model="mistral-small-latest",
        max_retries=retries,
        max_tokens=cap,
        **settings,
    )


UNTOLD = "Mistral does not say how much of the output was thinking"
DROPPED = "langchain-mistralai does not pass on how much of the input was cached"
CLIENT = LangChainClient(
    name="Mistral",
    server=partial(FakeOpenAI, dialect="mistral"),
    model=model,
    but={
        "stream left, awaited": LEFT_OPEN,
        **as_found(Expected(MEASURED, UNTOLD, ("reasoning",)), "reasoning", "reasoning, streamed"),
        **as_found(
            Expected(MEASURED, DROPPED, ("cached",)), "cached prompt", "cached prompt, streamed"
        ),
    },
    lacks={
        **without("Mistral bills no writes", "cache written", "cache written, streamed"),
        **without("an `invoke` sends nothing again", "retry after 503", "retry of what was billed"),
    },
)


@pytest.mark.parametrize(("client", "kind"), cells_of(CLIENT))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
