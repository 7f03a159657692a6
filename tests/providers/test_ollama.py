"""LangChain's ChatOllama."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_ollama import ChatOllama
from tests.providers.cells import (
    ESTIMATED,
    LANGCHAIN_KINDS,
    MEASURED,
    TEXT,
    Expected,
    Kind,
    as_found,
    cells_of,
    without,
)
from tests.providers.through_langchain import LangChainClient

from tbcontracts.testing import Answer, FakeOllama


def model(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    make: Any = ChatOllama
    return make(base_url=url, model="llama3.2", num_predict=cap, reasoning=True, **settings)


UNTOLD = "Ollama does not say how much of the output was thinking"
PARTLY = "Ollama does not say how much of the prompt was in its cache"
HIDDEN = (
    "Ollama leaves the count of a prompt out that it has in its cache; the output is as reported, "
    "the input is counted here"
)
ALL_CACHED = Answer(text=TEXT, cached_tokens=11, input_tokens=11, reasoning_tokens=5)
MORE = (
    Kind(
        name="prompt all in the cache",
        how="invoke",
        script=ALL_CACHED,
        usual=Expected(ESTIMATED, HIDDEN),
    ),
    Kind(
        name="prompt all in the cache, streamed",
        how="stream",
        script=ALL_CACHED,
        usual=Expected(ESTIMATED, HIDDEN),
    ),
)
CLIENT = LangChainClient(
    name="Ollama",
    server=FakeOllama,
    model=model,
    kinds=(*LANGCHAIN_KINDS, *MORE),
    but={
        **as_found(Expected(MEASURED, UNTOLD, ("reasoning",)), "reasoning", "reasoning, streamed"),
        **as_found(
            Expected(MEASURED, PARTLY, ("cached",)), "cached prompt", "cached prompt, streamed"
        ),
    },
    lacks={
        **without("Ollama gives one answer", "n = 2"),
        **without("Ollama has no writes to a cache", "cache written", "cache written, streamed"),
        **without("its SDK sends nothing again", "retry after 503", "retry of what was billed"),
    },
)


@pytest.mark.parametrize(("client", "kind"), cells_of(CLIENT))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
