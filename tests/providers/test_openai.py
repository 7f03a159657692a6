"""LangChain's ChatOpenAI, at OpenAI and elsewhere, and AzureChatOpenAI."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from tests.providers.cells import (
    ESTIMATED,
    LEFT_OPEN,
    MEASURED,
    NOT_SHOWN,
    Expected,
    as_found,
    cells_of,
    without,
)
from tests.providers.through_langchain import STREAMED, LangChainClient, openai_calm

from tbcontracts.testing import FakeOpenAI


def chat(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client; at OpenAI's own address it asks streams for their usage by itself."""
    make: Any = ChatOpenAI
    return make(
        base_url=url,
        api_key="test",
        model="gpt-4o-mini",
        max_retries=retries,
        max_tokens=cap,
        **{"stream_usage": True, **settings},
    )


def azure(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    make: Any = AzureChatOpenAI
    return make(
        azure_endpoint=url,
        api_key="test",
        api_version="2024-10-21",
        azure_deployment="gpt-4o-mini",
        max_retries=retries,
        max_tokens=cap,
        **settings,
    )


UNASKED = "the client does not ask a stream for its usage, unless it is made with stream_usage=True"
UNTOLD = "vLLM does not say how much of the output was thinking"
BROKEN = {"stream left, awaited": LEFT_OPEN, "refused after it began": NOT_SHOWN}
CLIENTS = [
    LangChainClient(name="OpenAI", server=FakeOpenAI, model=chat, calm=openai_calm, but=BROKEN),
    LangChainClient(
        name="OpenAI responses",
        server=FakeOpenAI,
        model=partial(chat, use_responses_api=True),
        calm=openai_calm,
        but=BROKEN,
        lacks=without("responses are one", "n = 2"),
    ),
    LangChainClient(
        name="ChatOpenAI elsewhere",
        server=FakeOpenAI,
        model=partial(chat, stream_usage=None),
        calm=openai_calm,
        but={**BROKEN, **as_found(Expected(ESTIMATED, UNASKED), *STREAMED)},
    ),
    LangChainClient(
        name="Azure",
        server=partial(FakeOpenAI, dialect="azure"),
        model=azure,
        calm=openai_calm,
        but=BROKEN,
    ),
    LangChainClient(
        name="vLLM",
        server=partial(FakeOpenAI, dialect="vllm"),
        model=chat,
        calm=openai_calm,
        but={
            **BROKEN,
            **as_found(
                Expected(MEASURED, UNTOLD, ("reasoning",)), "reasoning", "reasoning, streamed"
            ),
        },
        lacks=without("vLLM has no writes", "cache written", "cache written, streamed"),
    ),
    LangChainClient(
        name="LiteLLM proxy",
        server=partial(FakeOpenAI, dialect="litellm"),
        model=chat,
        calm=openai_calm,
        but=BROKEN,
    ),
]


@pytest.mark.parametrize(("client", "kind"), cells_of(*CLIENTS))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
