"""LangChain's ChatDeepSeek."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from langchain_deepseek import ChatDeepSeek
from tests.providers.cells import ESTIMATED, Expected, as_found, cells_of, without
from tests.providers.through_langchain import STREAMED, LangChainClient, openai_calm

from tbcontracts.testing import FakeOpenAI


def model(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    make: Any = ChatDeepSeek
    return make(
        api_base=url,
        api_key="test",
        model="deepseek-chat",
        max_retries=retries,
        max_tokens=cap,
        **settings,
    )


UNASKED = "the client does not ask a stream for its usage, unless it is made with stream_usage=True"
NO_WRITES = without("DeepSeek bills no writes", "cache written", "cache written, streamed")
CLIENTS = [
    LangChainClient(
        name="DeepSeek",
        server=partial(FakeOpenAI, dialect="deepseek"),
        model=model,
        calm=openai_calm,
        but=as_found(Expected(ESTIMATED, UNASKED), *STREAMED),
        lacks=NO_WRITES,
    ),
    LangChainClient(
        name="DeepSeek, stream_usage=True",
        server=partial(FakeOpenAI, dialect="deepseek"),
        model=partial(model, stream_usage=True),
        calm=openai_calm,
        lacks=NO_WRITES,
    ),
]


@pytest.mark.parametrize(("client", "kind"), cells_of(*CLIENTS))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
